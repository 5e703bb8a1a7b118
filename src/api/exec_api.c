// SPDX-License-Identifier: Apache-2.0
/*
 * Commands: the image's config merged with the caller's wishes, and a client of the agent on a
 * connection of its own.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/client.h"
#include "agent/proto.h"
#include "api/api.h"
#include "base/buf.h"
#include "base/err.h"

#define COLLECT_DEFAULT_BYTES (64u << 20)
#define END_GRACE_MS 5000 /* from a lost connection to the VM's end, which explains it */

struct sm_exec {
    struct sm_vm *vm; /* borrowed */
    struct client *client;
    int fd;
};

/* Take NAME out of an environment. */
static void env_remove(struct string_list *env, const char *name)
{
    size_t len = strlen(name), kept = 0;
    for (size_t i = 0; i < env->n; i++) {
        if (strncmp(env->items[i], name, len) == 0 && env->items[i][len] == '=')
            free(env->items[i]);
        else
            env->items[kept++] = env->items[i];
    }
    env->n = kept;
    if (env->items)
        env->items[kept] = NULL;
}

static int merge_env(const struct string_list *image, const char *const *wanted,
                     struct string_list *out, struct sm_error *err)
{
    int failed = 0;
    for (size_t i = 0; i < image->n && !failed; i++)
        failed = string_list_add(out, image->items[i]);
    for (; wanted && *wanted && !failed; wanted++) {
        if (**wanted == '=' || !**wanted)
            return err_set(err, SM_EINVAL, "the environment variable \"%.60s\" has no name",
                           *wanted);
        if (strchr(*wanted, '='))
            failed = string_list_set_env(out, *wanted);
        else
            env_remove(out, *wanted);
    }
    return failed ? err_set(err, SM_ENOMEM, "out of memory") : 0;
}

/* What client_run reports when the guest is gone; say why it is. */
static int explain(struct sm_exec *e, int rc, struct sm_error *err)
{
    enum vm_end end;
    int fd = -1;
    if (rc != SM_EGUEST || worker_wait(e->vm->worker, END_GRACE_MS, &end, NULL) != 0)
        return rc;
    rc = worker_connect(e->vm->worker, PROTO_PORT, &fd, err);
    if (fd >= 0)
        close(fd);
    return rc ? rc : err_set(err, SM_EGUEST, "the guest ended");
}

int exec_begin(sm_vm *vm, const struct client_spec *spec, sm_exec **out, struct sm_error *err)
{
    struct sm_exec *e = calloc(1, sizeof *e);
    if (!e)
        return err_set(err, SM_ENOMEM, "out of memory");
    e->vm = vm;
    e->fd = -1;
    int rc = worker_connect(vm->worker, PROTO_PORT, &e->fd, err);
    if (!rc)
        rc = client_new(&e->client, e->fd, spec, err);
    if (rc) {
        sm_exec_free(e);
        return rc;
    }
    *out = e;
    return 0;
}

/* The caller frees *out. */
static int take_files(const struct sm_exec_spec *spec, struct codec_file **out,
                      struct sm_error *err)
{
    *out = NULL;
    if (spec->n_files > PROTO_EXEC_FILES)
        return err_set(err, SM_EINVAL, "%zu files with a command: at most %u", spec->n_files,
                       PROTO_EXEC_FILES);
    struct codec_file *files = calloc(spec->n_files + 1, sizeof *files);
    if (!files)
        return err_set(err, SM_ENOMEM, "out of memory");
    for (size_t i = 0; i < spec->n_files; i++) {
        const struct sm_staged_file *f = &spec->files[i];
        if (!f->path || !*f->path || f->mode > PROTO_MODE_MAX || f->len > PROTO_EXEC_MAX ||
            (f->len && !f->data)) {
            free(files);
            return err_set(
                err, SM_EINVAL,
                "file %zu of the command: it needs a path, a mode up to 07777 and at most "
                "%u MiB (sm_vm_write_file has no limit)",
                i, PROTO_EXEC_MAX >> 20);
        }
        files[i] = (struct codec_file){.path = f->path,
                                       .mode = f->mode ? f->mode : FILE_DEFAULT_MODE,
                                       .length = (uint32_t)f->len,
                                       .data = f->data};
    }
    *out = files;
    return 0;
}

typedef int output_fn(void *opaque, int stream, const void *data, size_t len);

/* sm_exec_start, with output to a function if there is one. */
static int prepare(sm_vm *vm, const struct sm_exec_spec *given, output_fn *output, void *opaque,
                   sm_exec **out, struct sm_error *err)
{
    struct sm_exec_spec spec;
    struct string_list env = {0};
    struct codec_file *files = NULL;
    *out = NULL;
    int rc = config_copy(&spec, sizeof spec, given, "sm_exec_spec", err);
    if (!rc && (!spec.argv || !spec.argv[0]))
        rc = err_set(err, SM_EINVAL, "no command specified");
    if (!rc)
        rc = merge_env(&vm->env, spec.env, &env, err);
    if (!rc)
        rc = take_files(&spec, &files, err);
    if (!rc) {
        struct client_spec client = {
            .argv = spec.argv,
            .chain = spec.then,
            .files = files,
            .n_files = spec.n_files,
            .env = (const char *const *)env.items,
            .cwd = spec.cwd ? spec.cwd : vm->working_dir,
            .user = spec.user ? spec.user : vm->user,
            .make_cwd = true,
            .tty = spec.tty,
            .rows = spec.rows,
            .cols = spec.columns,
            .stdin_fd = spec.stdin_fd,
            .stdout_fd = spec.stdout_fd,
            .stderr_fd = spec.stderr_fd,
            .output = output,
            .opaque = opaque,
        };
        rc = exec_begin(vm, &client, out, err);
    }
    free(files);
    string_list_fini(&env);
    return rc;
}

SM_API int sm_exec_start(sm_vm *vm, const struct sm_exec_spec *spec, sm_exec **out,
                         struct sm_error *err)
{
    return prepare(vm, spec, NULL, NULL, out, err);
}

SM_API int sm_exec_wait(sm_exec *e, int timeout_ms, struct sm_outcome *outcome,
                        struct sm_error *err)
{
    struct client_result r;
    int rc = client_run(e->client, timeout_ms, &r, err);
    *outcome = (struct sm_outcome){
        .code = r.code,
        .started = !r.refused,
        .signal = r.signal,
        .wall_ns = r.wall_ns,
        .user_ns = r.user_ns,
        .system_ns = r.system_ns,
        .peak_rss_bytes = r.peak_rss_bytes,
    };
    return r.refused ? rc : explain(e, rc, err);
}

SM_API void sm_exec_signal(sm_exec *e, int signal)
{
    client_signal(e->client, signal, false);
}

SM_API void sm_exec_resize(sm_exec *e, uint16_t rows, uint16_t columns)
{
    client_resize(e->client, rows, columns);
}

SM_API void sm_exec_free(sm_exec *e)
{
    if (!e)
        return;
    client_free(e->client);
    if (e->fd >= 0)
        close(e->fd);
    free(e);
}

struct collector {
    struct buf streams[2];
    size_t max_bytes;
};

static int collect(void *opaque, int stream, const void *data, size_t len)
{
    struct collector *c = opaque;
    struct buf *b = &c->streams[stream == 2];
    return len > c->max_bytes - b->len || buf_append(b, data, len) ? SM_ENOMEM : 0;
}

/* Each stream as a string of its own. */
static int hand_over(struct collector *c, struct sm_output *output, struct sm_error *err)
{
    for (int i = 0; i < 2; i++)
        if (buf_append(&c->streams[i], "", 1))
            return err_set(err, SM_ENOMEM, "out of memory for output");
    output->out = (char *)c->streams[0].data;
    output->out_len = c->streams[0].len - 1;
    output->err = (char *)c->streams[1].data;
    output->err_len = c->streams[1].len - 1;
    memset(c->streams, 0, sizeof c->streams);
    return 0;
}

SM_API int sm_exec_output(sm_vm *vm, const struct sm_exec_spec *spec, size_t max_bytes,
                          int timeout_ms, struct sm_output *output, struct sm_error *err)
{
    struct collector c = {.max_bytes = max_bytes ? max_bytes : COLLECT_DEFAULT_BYTES};
    sm_exec *e;
    memset(output, 0, sizeof *output);
    int rc = prepare(vm, spec, collect, &c, &e, err);
    if (!rc)
        rc = sm_exec_wait(e, timeout_ms, &output->outcome, err);
    sm_exec_free(e);
    if (!rc)
        rc = hand_over(&c, output, err);
    buf_fini(&c.streams[0]);
    buf_fini(&c.streams[1]);
    return rc;
}

SM_API void sm_output_fini(struct sm_output *output)
{
    free(output->out);
    free(output->err);
    output->out = output->err = NULL;
    output->out_len = output->err_len = 0;
}
