/* SPDX-License-Identifier: Apache-2.0 */
/* EXEC, whose layout proto.h has. Every count is compared with the bytes that are left before
 * anything is allocated for it. */
#include <stdlib.h>
#include <string.h>

#include "agent/bytes.h"
#include "agent/codec.h"

/* What is not read yet, or where to write. */
struct cursor {
    char *p, *end;
};

static bool take32(struct cursor *c, uint32_t *value)
{
    if (c->end - c->p < 4)
        return false;
    *value = get32((const uint8_t *)c->p);
    c->p += 4;
    return true;
}

/* Takes one NUL-terminated string; NULL when there is none. */
static char *take_string(struct cursor *c)
{
    char *s = c->p;
    char *nul = s < c->end ? memchr(s, 0, (size_t)(c->end - s)) : NULL;

    if (!nul)
        return NULL;
    c->p = nul + 1;
    return s;
}

static char **take_strings(struct cursor *c, uint32_t count)
{
    /* Each takes at least its NUL: a count above what is left is a lie. */
    char **list = count <= (size_t)(c->end - c->p) ? calloc((size_t)count + 1, sizeof *list) : NULL;

    for (uint32_t i = 0; list && i < count; i++) {
        list[i] = take_string(c);
        if (!list[i]) {
            free(list);
            return NULL;
        }
    }
    return list;
}

static bool take_chain(struct cursor *c, struct codec_exec *x)
{
    uint32_t argc;

    x->chain = calloc((size_t)x->n_chain + 1, sizeof *x->chain);
    for (unsigned i = 0; x->chain && i < x->n_chain; i++)
        if (!take32(c, &argc) || argc == 0 || argc > PROTO_EXEC_STRINGS ||
            !(x->chain[i] = take_strings(c, argc)))
            return false;
    return x->chain != NULL;
}

static bool take_files(struct cursor *c, struct codec_exec *x)
{
    x->files = calloc((size_t)x->n_files + 1, sizeof *x->files);
    for (unsigned i = 0; x->files && i < x->n_files; i++) {
        struct codec_file *f = &x->files[i];
        if (!take32(c, &f->mode) || !take32(c, &f->length) || f->mode > PROTO_MODE_MAX ||
            !(f->path = take_string(c)) || !*f->path || f->length > (size_t)(c->end - c->p))
            return false;
        f->data = (const uint8_t *)c->p;
        c->p += f->length;
    }
    return x->files != NULL;
}

/* What goes together (proto.h). */
static bool makes_sense(const struct codec_exec *x, uint32_t argc)
{
    uint32_t file = x->flags & (PROTO_EXEC_WRITE | PROTO_EXEC_READ);

    if (x->flags & ~PROTO_EXEC_FLAGS || x->n_chain > PROTO_EXEC_CHAIN ||
        x->n_files > PROTO_EXEC_FILES)
        return false;
    if (!file)
        return argc > 0;
    return argc == 0 && x->n_chain == 0 && x->n_files == 1 && !(x->flags & PROTO_EXEC_TTY) &&
           file != (PROTO_EXEC_WRITE | PROTO_EXEC_READ) &&
           (file == PROTO_EXEC_WRITE) == ((x->flags & PROTO_EXEC_STDIN) != 0);
}

int codec_exec_parse(char *blob, size_t len, struct codec_exec *out)
{
    const uint8_t *head = (const uint8_t *)blob;
    struct cursor c = {blob + PROTO_EXEC_FIXED, blob + len};
    uint32_t argc, envc;

    memset(out, 0, sizeof *out);
    if (len < PROTO_EXEC_FIXED || len > PROTO_EXEC_MAX)
        return -1;
    out->flags = get32(head);
    out->rows = get16(head + 4);
    out->cols = get16(head + 6);
    argc = get32(head + 8);
    envc = get32(head + 12);
    out->n_chain = get16(head + 16);
    out->n_files = get16(head + 18);
    if (!makes_sense(out, argc) || argc > PROTO_EXEC_STRINGS || envc > PROTO_EXEC_STRINGS - argc) {
        memset(out, 0, sizeof *out); /* its counts are of nothing */
        return -1;
    }
    out->argv = take_strings(&c, argc);
    out->env = out->argv ? take_strings(&c, envc) : NULL;
    out->cwd = out->env ? take_string(&c) : NULL;
    out->user = out->cwd ? take_string(&c) : NULL;
    if (!out->user || !take_chain(&c, out) || !take_files(&c, out) || c.p != c.end ||
        (out->flags & (PROTO_EXEC_WRITE | PROTO_EXEC_READ) && out->files[0].length)) {
        codec_exec_fini(out);
        return -1;
    }
    return 0;
}

void codec_exec_fini(struct codec_exec *x)
{
    for (unsigned i = 0; x->chain && i < x->n_chain; i++)
        free(x->chain[i]);
    free(x->chain);
    free(x->files);
    free(x->argv);
    free(x->env);
    memset(x, 0, sizeof *x);
}

/* Adds the list's size to *total and counts it; -1 as soon as a limit is passed. */
static int measure(char *const *list, size_t *total, uint32_t *count)
{
    for (*count = 0; list && list[*count]; ++*count) {
        *total += strlen(list[*count]) + 1;
        if (*total > PROTO_EXEC_MAX || *count >= PROTO_EXEC_STRINGS)
            return -1;
    }
    return 0;
}

/* The same for what follows the strings. */
static int measure_rest(const struct codec_exec *x, size_t *total)
{
    uint32_t argc;

    for (unsigned i = 0; i < x->n_chain; i++) {
        *total += 4;
        if (measure(x->chain[i], total, &argc) < 0 || argc == 0)
            return -1;
    }
    for (unsigned i = 0; i < x->n_files; i++) {
        const struct codec_file *f = &x->files[i];
        *total += 8 + strlen(f->path) + 1;
        if (!*f->path || f->mode > PROTO_MODE_MAX || *total > PROTO_EXEC_MAX ||
            f->length > PROTO_EXEC_MAX - *total)
            return -1;
        *total += f->length;
    }
    return *total > PROTO_EXEC_MAX ? -1 : 0;
}

static uint8_t *put_bytes(uint8_t *p, const void *data, size_t size)
{
    if (size)
        memcpy(p, data, size);
    return p + size;
}

static uint8_t *put_string(uint8_t *p, const char *s)
{
    return put_bytes(p, s, strlen(s) + 1);
}

static uint8_t *put_strings(uint8_t *p, char *const *list)
{
    for (; list && *list; list++)
        p = put_string(p, *list);
    return p;
}

static void put_rest(uint8_t *p, const struct codec_exec *x)
{
    for (unsigned i = 0; i < x->n_chain; i++) {
        uint32_t argc = 0;
        while (x->chain[i][argc])
            argc++;
        put32(p, argc);
        p = put_strings(p + 4, x->chain[i]);
    }
    for (unsigned i = 0; i < x->n_files; i++) {
        const struct codec_file *f = &x->files[i];
        put32(p, f->mode);
        put32(p + 4, f->length);
        p = put_bytes(put_string(p + 8, f->path), f->data, f->length);
    }
}

int codec_exec_build(const struct codec_exec *x, uint8_t **blob, size_t *len)
{
    const char *cwd = x->cwd ? x->cwd : "", *user = x->user ? x->user : "";
    size_t total = PROTO_EXEC_FIXED + strlen(cwd) + strlen(user) + 2;
    uint32_t argc, envc;
    uint8_t *p;

    if (total > PROTO_EXEC_MAX || measure(x->argv, &total, &argc) < 0 ||
        measure(x->env, &total, &envc) < 0 || envc > PROTO_EXEC_STRINGS - argc ||
        !makes_sense(x, argc) || measure_rest(x, &total) < 0)
        return -1;
    *blob = p = malloc(total);
    if (!p)
        return -2;
    *len = total;
    put32(p, x->flags);
    put16(p + 4, x->rows);
    put16(p + 6, x->cols);
    put32(p + 8, argc);
    put32(p + 12, envc);
    put16(p + 16, x->n_chain);
    put16(p + 18, x->n_files);
    p = put_strings(put_strings(p + PROTO_EXEC_FIXED, x->argv), x->env);
    put_rest(put_string(put_string(p, cwd), user), x);
    return 0;
}

int codec_mode_parse(const char *text, size_t len, uint32_t *mode)
{
    uint32_t value = 0;

    if (len < 2 || len > 5 || text[len - 1] != '\n')
        return -1;
    for (size_t i = 0; i < len - 1; i++) {
        if (text[i] < '0' || text[i] > '7')
            return -1;
        value = value << 3 | (uint32_t)(text[i] - '0');
    }
    *mode = value;
    return 0;
}
