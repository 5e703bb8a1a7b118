// SPDX-License-Identifier: Apache-2.0
/*
 * Files in and out are sessions of the agent without a command (agent/proto.h): so they have an
 * exec's flow control, and its end when the VM ends. The answers come from the guest and are judged
 * here.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/client.h"
#include "api/api.h"
#include "base/buf.h"
#include "base/err.h"

#define READ_DEFAULT_BYTES (64u << 20)
#define MODE_TEXT_MAX 8 /* octal digits and a newline */

static int check(struct sm_file_spec *spec, const struct sm_file_spec *given, struct sm_error *err)
{
    int rc = config_copy(spec, sizeof *spec, given, "sm_file_spec", err);
    if (rc)
        return rc;
    if (!given)
        return err_set(err, SM_EINVAL, "no sm_file_spec");
    if (!spec->path || !*spec->path)
        return err_set(err, SM_EINVAL, "no path of a file");
    if (spec->len && !spec->data)
        return err_set(err, SM_EINVAL, "no data of \"%.200s\"", spec->path);
    if (spec->mode > PROTO_MODE_MAX)
        return err_set(err, SM_EINVAL, "mode %o of \"%.200s\": at most 7777", spec->mode,
                       spec->path);
    return 0;
}

/* What the agent's process ended with is 0 or the errno of what failed there. */
static int judge(const struct sm_outcome *o, const char *doing, const char *path,
                 struct sm_error *err)
{
    if (o->signal)
        return err_set(err, SM_EGUEST, "%s \"%.200s\": signal %d ended it in the guest", doing,
                       path, o->signal);
    if (!o->code)
        return 0;
    int rc = o->code == ENOSPC || o->code == EDQUOT ? SM_ENOSPC : SM_EGUEST;
    return err_set(err, rc, "%s \"%.200s\" in the guest: %s", doing, path, strerror(o->code));
}

static int run(sm_vm *vm, const struct client_spec *client, const char *doing, const char *path,
               int timeout_ms, struct sm_error *err)
{
    struct sm_outcome outcome;
    sm_exec *e;
    int rc = exec_begin(vm, client, &e, err);
    if (rc)
        return rc;
    rc = sm_exec_wait(e, timeout_ms, &outcome, err);
    sm_exec_free(e);
    if (rc == SM_ETIMEDOUT)
        return err_set(err, rc, "%s \"%.200s\" in the guest took longer than %d ms", doing, path,
                       timeout_ms);
    return rc ? rc : judge(&outcome, doing, path, err);
}

/* A descriptor from which these bytes are read. */
static int memory_fd(const void *data, size_t len, int *fd, struct sm_error *err)
{
    *fd = memfd_create("supermachine-file", MFD_CLOEXEC);
    if (*fd < 0)
        return err_sys(err, "cannot create a memory file");
    for (size_t at = 0; at < len;) {
        ssize_t n = write(*fd, (const char *)data + at, len - at);
        if (n < 0 && errno != EINTR)
            return err_sys(err, "cannot fill a memory file");
        at += n > 0 ? (size_t)n : 0;
    }
    return lseek(*fd, 0, SEEK_SET) < 0 ? err_sys(err, "cannot rewind a memory file") : 0;
}

SM_API int sm_vm_write_file(sm_vm *vm, const struct sm_file_spec *given, int timeout_ms,
                            struct sm_error *err)
{
    struct sm_file_spec spec;
    int rc = check(&spec, given, err), memory = -1;
    if (rc)
        return rc;
    if (spec.fd < 0)
        rc = memory_fd(spec.data, spec.len, &memory, err);
    if (!rc) {
        const struct codec_file file = {.path = spec.path,
                                        .mode = spec.mode ? spec.mode : FILE_DEFAULT_MODE};
        struct client_spec client = CLIENT_SPEC_INIT;
        client.what = CLIENT_WRITE;
        client.files = &file;
        client.n_files = 1;
        client.user = spec.user;
        client.stdin_fd = spec.fd < 0 ? memory : spec.fd;
        rc = run(vm, &client, "writing", spec.path, timeout_ms, err);
    }
    if (memory >= 0)
        close(memory);
    return rc;
}

/* What comes back: contents and mode, each with its limit. */
struct reader {
    struct buf contents;
    size_t max_bytes;
    char mode[MODE_TEXT_MAX];
    size_t mode_len;
};

static int take(void *opaque, int stream, const void *data, size_t len)
{
    struct reader *r = opaque;
    if (stream == 1)
        return len > r->max_bytes - r->contents.len || buf_append(&r->contents, data, len)
                   ? SM_ENOMEM
                   : 0;
    if (len > sizeof r->mode - r->mode_len)
        return SM_EGUEST;
    memcpy(r->mode + r->mode_len, data, len);
    r->mode_len += len;
    return 0;
}

static int parse_mode(const char *text, size_t len, uint32_t *mode, struct sm_error *err)
{
    return codec_mode_parse(text, len, mode) == 0
               ? 0
               : err_set(err, SM_EGUEST,
                         "the guest's agent broke the protocol: bad mode of a file");
}

/* To a descriptor: the contents go there, the mode into a pipe, which holds no more than it holds.
 */
static int read_to_fd(sm_vm *vm, struct client_spec *client, const struct sm_file_spec *spec,
                      int timeout_ms, uint32_t *mode, struct sm_error *err)
{
    char text[MODE_TEXT_MAX];
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return err_sys(err, "cannot create a pipe");
    client->stdout_fd = spec->fd;
    client->stderr_fd = ends[1];
    int rc = run(vm, client, "reading", spec->path, timeout_ms, err);
    if (!rc) {
        ssize_t n = read(ends[0], text, sizeof text);
        rc = parse_mode(text, n < 0 ? 0 : (size_t)n, mode, err);
    }
    close(ends[0]);
    close(ends[1]);
    return rc;
}

static int read_to_memory(sm_vm *vm, struct client_spec *client, const struct sm_file_spec *spec,
                          int timeout_ms, struct sm_file *out, struct sm_error *err)
{
    struct reader r = {.max_bytes = spec->max_bytes ? spec->max_bytes : READ_DEFAULT_BYTES};
    client->output = take;
    client->opaque = &r;
    int rc = run(vm, client, "reading", spec->path, timeout_ms, err);
    if (rc == SM_ENOMEM)
        rc = err_set(err, rc, "\"%.200s\" has more than %zu bytes (max_bytes)", spec->path,
                     r.max_bytes);
    if (!rc)
        rc = parse_mode(r.mode, r.mode_len, &out->mode, err);
    if (!rc && buf_append(&r.contents, "", 1))
        rc = err_set(err, SM_ENOMEM, "out of memory for a file");
    if (!rc) {
        out->data = (char *)r.contents.data;
        out->len = r.contents.len - 1;
        return 0;
    }
    buf_fini(&r.contents);
    return rc;
}

SM_API int sm_vm_read_file(sm_vm *vm, const struct sm_file_spec *given, int timeout_ms,
                           struct sm_file *out, struct sm_error *err)
{
    struct sm_file_spec spec;
    memset(out, 0, sizeof *out);
    int rc = check(&spec, given, err);
    if (rc)
        return rc;
    const struct codec_file file = {.path = spec.path};
    struct client_spec client = CLIENT_SPEC_INIT;
    client.what = CLIENT_READ;
    client.files = &file;
    client.n_files = 1;
    client.user = spec.user;
    rc = spec.fd >= 0 ? read_to_fd(vm, &client, &spec, timeout_ms, &out->mode, err)
                      : read_to_memory(vm, &client, &spec, timeout_ms, out, err);
    if (rc)
        memset(out, 0, sizeof *out);
    return rc;
}
