// SPDX-License-Identifier: Apache-2.0
#include "worker/serve.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "vm/snapshot.h"
#include "worker/control.h"

/* jail(main): poll recvmsg sendmsg close */
/* jail(loop,vcpu): sendmsg */
/* jail(beacon): sendmsg */
static void tell(const struct control_msg *m, int fd)
{
    if (control_send(CONTROL_FD, m, fd) != 0)
        _exit(1);
}

void serve_ready(unsigned jail, int code, const struct sm_error *err)
{
    struct control_msg m = {.type = CONTROL_READY, .arg = jail};
    if (code)
        control_set_error(&m, code, err);
    tell(&m, -1);
}

static void tell_bytes(uint32_t type, const void *bytes, size_t len)
{
    struct control_msg m = {.type = type};
    const char *at = bytes;
    for (; len; at += m.len, len -= m.len) {
        m.len = len < CONTROL_TEXT ? (uint32_t)len : CONTROL_TEXT;
        memcpy(m.text, at, m.len);
        tell(&m, -1);
    }
}

void serve_console(void *opaque, const uint8_t *data, size_t len)
{
    tell_bytes(CONTROL_CONSOLE, data, len);
}

void serve_debug(void *opaque, const char *text, size_t len)
{
    tell_bytes(CONTROL_DEBUG, text, len);
}

void serve_warning(void *opaque, const char *text)
{
    struct control_msg m = {.type = CONTROL_WARNING};
    struct sm_error err;
    control_set_error(&m, err_set(&err, SM_EIO, "%s", text), &err);
    tell(&m, -1);
}

static int save_ram(struct vm *vm, int fd, struct control_msg *reply, struct sm_error *err)
{
    char digest[DIGEST_STR_SIZE];
    int rc = vm_save_ram(vm, fd, digest, err);
    if (!rc) {
        reply->len = (uint32_t)strlen(digest);
        memcpy(reply->text, digest, reply->len);
    }
    return rc;
}

/* What a paused VM is asked. */
static int answer_paused(struct vm *vm, const struct control_msg *m, int fd,
                         struct control_msg *reply, bool *paused, struct sm_error *err)
{
    switch (m->type) {
    case CONTROL_RESUME:
        vm_resume(vm);
        *paused = false;
        return 0;
    case CONTROL_SAVE_RAM:
        return save_ram(vm, fd, reply, err);
    case CONTROL_SAVE_STATE:
        if (m->len != STATE_DIGEST_SIZE)
            break;
        return vm_save_state(vm, fd, (const uint8_t *)m->text, err);
    }
    return err_set(err, SM_EINVAL, "the VM is paused");
}

static int answer(struct vm *vm, const struct control_msg *m, struct control_msg *reply,
                  int *reply_fd, bool *paused, struct sm_error *err)
{
    int rc;
    switch (m->type) {
    case CONTROL_CONNECT:
        return vm_connect(vm, m->arg, reply_fd, err);
    case CONTROL_STREAMS:
        reply->arg = vm_streams(vm);
        return 0;
    case CONTROL_PAUSE:
        rc = vm_pause(vm, err);
        *paused = rc == 0;
        return rc;
    }
    return err_set(err, SM_EINVAL, "the VM is not paused, or request %u is unknown", m->type);
}

static void tell_end(struct vm *vm)
{
    struct control_msg m = {.type = CONTROL_ENDED};
    struct sm_error err = {0};
    enum vm_end end;
    vm_wait(vm, 0, &end, NULL);
    m.arg = end;
    control_set_error(&m, vm_end_error(vm, &err), &err);
    tell(&m, -1);
}

_Noreturn void serve(struct vm *vm)
{
    struct pollfd p[2] = {{.fd = CONTROL_FD, .events = POLLIN},
                          {.fd = vm_end_fd(vm), .events = POLLIN}};
    bool paused = false;
    for (;;) {
        struct control_msg m, reply = {.type = CONTROL_REPLY};
        struct sm_error err = {0};
        int fd, reply_fd = -1;
        poll(p, 2, -1);
        if (p[1].revents) {
            tell_end(vm);
            _exit(0); /* the kernel takes a machine down faster than vm_free() */
        }
        if (!p[0].revents)
            continue;
        if (control_receive(CONTROL_FD, &m, &fd) <= 0)
            _exit(0);
        reply.id = m.id;
        int rc = paused ? answer_paused(vm, &m, fd, &reply, &paused, &err)
                        : answer(vm, &m, &reply, &reply_fd, &paused, &err);
        if (rc)
            control_set_error(&reply, rc, &err);
        tell(&reply, reply_fd);
        if (reply_fd >= 0)
            close(reply_fd);
        if (fd >= 0)
            close(fd);
    }
}
