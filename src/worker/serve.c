// SPDX-License-Identifier: Apache-2.0
#include "worker/serve.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
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

/* What requests leave for later ones. */
struct session {
    struct vm *vm;
    struct buf state;          /* what was captured and not yet saved */
    int disks[VM_MAX_VOLUMES]; /* owned: for the next capture; -1: none */
};

struct answer {
    struct control_msg msg;
    int fd; /* -1: none */
};

static int keep_disk(struct session *s, uint32_t index, int *fd, struct sm_error *err)
{
    if (index >= VM_MAX_VOLUMES || *fd < 0)
        return err_set(err, SM_EINVAL, "file %u for a disk is none", index);
    if (s->disks[index] >= 0) /* of a request that was given up */
        close(s->disks[index]);
    s->disks[index] = *fd;
    *fd = -1;
    return 0;
}

static void drop_disks(struct session *s)
{
    for (unsigned i = 0; i < VM_MAX_VOLUMES; i++) {
        if (s->disks[i] >= 0)
            close(s->disks[i]);
        s->disks[i] = -1;
    }
}

static int capture(struct session *s, uint32_t n_disks, int fd, struct answer *reply,
                   struct sm_error *err)
{
    struct vm_files files = {.ram = fd, .disks = s->disks, .n_disks = n_disks};
    uint64_t pause_ns = 0;
    int rc = n_disks <= VM_MAX_VOLUMES ? 0 : err_set(err, SM_EINVAL, "%u disks", n_disks);
    buf_fini(&s->state);
    rc = rc ? rc : vm_capture(s->vm, &files, &s->state, &pause_ns, err);
    drop_disks(s);
    reply->msg.arg = pause_ns / 1000 < UINT32_MAX ? (uint32_t)(pause_ns / 1000) : UINT32_MAX;
    return rc;
}

/* jail(main): write */
static int save_state(const struct control_msg *m, int fd, struct buf *state, struct sm_error *err)
{
    int rc = 0;
    if (!state->len || m->len != STATE_DIGEST_SIZE)
        return err_set(err, SM_EINVAL, "no state was captured, or its digest is none");
    state_bind(state, (const uint8_t *)m->text);
    if (io_write_full(fd, state->data, state->len) != 0)
        rc = err_sys(err, "cannot write the machine's state");
    buf_fini(state);
    return rc;
}

/* *fd: what came with the request; -1 when it is kept. */
static int answer(struct session *s, const struct control_msg *m, int *fd, struct answer *reply,
                  struct sm_error *err)
{
    switch (m->type) {
    case CONTROL_CONNECT:
        return vm_connect(s->vm, m->arg, &reply->fd, err);
    case CONTROL_STREAMS:
        reply->msg.arg = vm_streams(s->vm);
        return 0;
    case CONTROL_DISK:
        return keep_disk(s, m->arg, fd, err);
    case CONTROL_CAPTURE:
        return capture(s, m->arg, *fd, reply, err);
    case CONTROL_SHARE:
        return vm_share(s->vm, *fd, err);
    case CONTROL_SAVE_STATE:
        return save_state(m, *fd, &s->state, err);
    }
    return err_set(err, SM_EINVAL, "request %u is unknown", m->type);
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
    struct session session = {.vm = vm};
    for (unsigned i = 0; i < VM_MAX_VOLUMES; i++)
        session.disks[i] = -1;
    for (;;) {
        struct control_msg m;
        struct answer reply = {.msg.type = CONTROL_REPLY, .fd = -1};
        struct sm_error err = {0};
        int fd;
        poll(p, 2, -1);
        if (p[1].revents) {
            tell_end(vm);
            _exit(0); /* the kernel takes a machine down faster than vm_free() */
        }
        if (!p[0].revents)
            continue;
        if (control_receive(CONTROL_FD, &m, &fd) <= 0)
            _exit(0);
        reply.msg.id = m.id;
        int rc = answer(&session, &m, &fd, &reply, &err);
        if (rc)
            control_set_error(&reply.msg, rc, &err);
        tell(&reply.msg, reply.fd);
        if (reply.fd >= 0)
            close(reply.fd);
        if (fd >= 0)
            close(fd);
    }
}
