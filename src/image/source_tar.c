/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tar archive as a source. One pass over the headers makes an index: name, type, link target and
 * where the data is. An entry is then read from there, so order does not matter and nothing is ever
 * written under a name from the archive. Compressed or unseekable archives are copied into one
 * unnamed file first (spool.c).
 */
#include "image/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/spool.h"
#include "image/tarball.h"

#define MAX_ENTRIES 100000
#define MAX_NAME_BYTES (16u << 20) /* of all names and links together */
#define MAX_HOPS 8
#define BLOCK 65536

struct entry {
    char *name;      /* owned; cleaned: no leading "/" or "./" */
    char *target;    /* owned; cleaned, from the archive's root; NULL unless a link */
    uint64_t offset; /* of the data of a file */
    uint64_t size_bytes;
    bool file;
};

struct tar_source {
    struct source src;
    int fd; /* a plain tar that can be read at any offset */
    struct entry *entries;
    size_t n, cap, name_bytes;
};

struct entry_stream {
    struct stream stream;
    int fd; /* borrowed */
    uint64_t offset, left;
};

/* The plain archive from its beginning, for the index. */
struct archive_input {
    int fd; /* borrowed */
    uint64_t offset, size;
    uint8_t block[BLOCK];
};

/* Append the n bytes of path at in to the clean path in out (len bytes, no '/' at either end).
 * False when it leaves the root. */
static bool append_clean(char *out, size_t *len, const char *in, size_t n)
{
    for (size_t part; n > 0; in += part, n -= part) {
        const char *slash = memchr(in, '/', n);
        part = slash ? (size_t)(slash - in) + 1 : n;
        size_t name = slash ? part - 1 : part;
        if (name == 0 || (name == 1 && in[0] == '.')) {
            continue;
        }
        if (name == 2 && in[0] == '.' && in[1] == '.') {
            if (*len == 0) {
                return false;
            }
            while (*len > 0 && out[--*len] != '/') {
            }
            continue;
        }
        if (*len > 0) {
            out[(*len)++] = '/';
        }
        memcpy(out + *len, in, name);
        *len += name;
    }
    return true;
}

/* name, seen from the folder base (base_len bytes), as a path from the archive's root; NULL when it
 * leaves the root or memory is out. */
static char *clean_name(const char *base, size_t base_len, const char *name)
{
    size_t len = 0;
    char *out = malloc(base_len + strlen(name) + 2);
    if (!out || !append_clean(out, &len, base, base_len) ||
        !append_clean(out, &len, name, strlen(name))) {
        free(out);
        return NULL;
    }
    out[len] = '\0';
    return out;
}

static ssize_t read_at(int fd, void *data, size_t len, uint64_t offset)
{
    ssize_t n;
    do {
        n = pread(fd, data, len, (off_t)offset);
    } while (n < 0 && errno == EINTR);
    return n;
}

static int add_entry(struct tar_source *t, const struct tarball_entry *e, struct sm_error *err)
{
    bool file = e->type == TARBALL_REG && !e->sparse;
    bool hard = e->type == TARBALL_HARDLINK, soft = e->type == TARBALL_SYMLINK;
    if (!(file || hard || soft)) {
        return SM_OK; /* folders and oddities hold nothing that we read */
    }
    t->name_bytes += strlen(e->name) * 2 + strlen(e->link);
    if (t->n >= MAX_ENTRIES || t->name_bytes > MAX_NAME_BYTES) {
        return err_set(err, SM_EUNSUPPORTED, "%s holds too many entries", t->src.label);
    }
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 64;
        struct entry *entries = realloc(t->entries, cap * sizeof *entries);
        if (!entries) {
            return err_set(err, SM_ENOMEM, "out of memory");
        }
        t->entries = entries;
        t->cap = cap;
    }
    struct entry *x = &t->entries[t->n];
    *x = (struct entry){.offset = e->stored_at, .size_bytes = e->stored, .file = file};
    x->name = clean_name("", 0, e->name);
    if (!x->name) {
        return SM_OK; /* leaves the root: nobody will ask for it */
    }
    if (hard) {
        x->target = clean_name("", 0, e->link);
    } else if (soft) {
        const char *slash = strrchr(x->name, '/');
        x->target = e->link[0] == '/'
                        ? clean_name("", 0, e->link)
                        : clean_name(x->name, slash ? (size_t)(slash - x->name) : 0, e->link);
    }
    t->n++;
    return SM_OK;
}

static int next_block(void *opaque, const uint8_t **data, size_t *len, struct sm_error *err)
{
    struct archive_input *in = opaque;
    ssize_t n = read_at(in->fd, in->block, sizeof in->block, in->offset);
    *data = in->block;
    *len = n > 0 ? (size_t)n : 0;
    in->offset += *len;
    return n < 0 ? err_sys(err, "cannot read it") : 0;
}

static uint64_t skip_bytes(void *opaque, uint64_t len)
{
    struct archive_input *in = opaque;
    uint64_t left = in->size > in->offset ? in->size - in->offset : 0;
    uint64_t n = len < left ? len : left;
    in->offset += n;
    return n;
}

static int read_entries(struct tar_source *t, struct tarball *tar, struct sm_error *err)
{
    const struct tarball_entry *e;
    int rc;
    do {
        rc = tarball_next(tar, &e, err);
        if (rc == SM_ECORRUPT || rc == SM_EIO) {
            err_wrap(err, rc, "%s is not a complete tar archive", t->src.label);
        }
        rc = rc || !e ? rc : add_entry(t, e, err);
    } while (!rc && e);
    return rc;
}

static int read_index(struct tar_source *t, struct sm_error *err)
{
    struct stat st;
    if (fstat(t->fd, &st)) {
        return err_sys(err, "cannot look at %s", t->src.label);
    }
    struct archive_input *in = calloc(1, sizeof *in);
    struct tarball *tar = tarball_new((struct tarball_source){next_block, skip_bytes, in});
    int rc = in && tar ? SM_OK : err_set(err, SM_ENOMEM, "out of memory");
    if (!rc) {
        in->fd = t->fd;
        in->size = (uint64_t)st.st_size;
        rc = read_entries(t, tar, err);
    }
    tarball_free(tar);
    free(in);
    return rc;
}

/* The last entry of a name counts, as when the archive were unpacked. */
static const struct entry *find(const struct tar_source *t, const char *name)
{
    for (int hop = 0; hop < MAX_HOPS; hop++) {
        const struct entry *hit = NULL;
        for (size_t i = t->n; i > 0 && !hit; i--) {
            if (strcmp(t->entries[i - 1].name, name) == 0) {
                hit = &t->entries[i - 1];
            }
        }
        if (!hit || hit->file || !hit->target) {
            return hit && hit->file ? hit : NULL;
        }
        name = hit->target;
    }
    return NULL;
}

static ssize_t entry_read(struct stream *stream, void *data, size_t len)
{
    struct entry_stream *s = (struct entry_stream *)stream;
    ssize_t n = read_at(s->fd, data, len < s->left ? len : (size_t)s->left, s->offset);
    if (n > 0) {
        s->offset += (uint64_t)n;
        s->left -= (uint64_t)n;
    }
    return n;
}

static void entry_close(struct stream *stream)
{
    free(stream);
}

static int tar_open(struct source *src, const char *name, struct stream **out, struct sm_error *err)
{
    struct tar_source *t = (struct tar_source *)src;
    const struct entry *x = find(t, name);
    if (!x) {
        return err_set(err, SM_ENOTFOUND, "%s holds no file %s", src->label, name);
    }
    struct entry_stream *s = calloc(1, sizeof *s);
    if (!s) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    s->stream =
        (struct stream){.read = entry_read, .close = entry_close, .size_bytes = x->size_bytes};
    s->fd = t->fd;
    s->offset = x->offset;
    s->left = x->size_bytes;
    *out = &s->stream;
    return SM_OK;
}

static void tar_free(struct source *src)
{
    struct tar_source *t = (struct tar_source *)src;
    for (size_t i = 0; i < t->n; i++) {
        free(t->entries[i].name);
        free(t->entries[i].target);
    }
    free(t->entries);
    if (t->fd >= 0) {
        close(t->fd);
    }
    free(src->label);
    free(t);
}

static const struct source_ops tar_ops = {tar_open, tar_free};

static int open_plain(struct tar_source *t, const char *path, struct store *store,
                      struct sm_error *err)
{
    struct stat st;
    bool compressed = true; /* a pipe is treated the same way: unpacked first */
    t->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (t->fd < 0 || fstat(t->fd, &st)) {
        return err_sys(err, "cannot open %s", path);
    }
    if (S_ISDIR(st.st_mode)) {
        return err_set(err, SM_EINVAL, "%s is a folder, not an archive; did you mean oci:%s?", path,
                       path);
    }
    int rc = S_ISREG(st.st_mode) ? spool_is_needed(t->fd, path, &compressed, err) : SM_OK;
    if (rc || !compressed) {
        return rc;
    }
    int plain;
    rc = store_temp_file(store, &plain, err);
    if (!rc) {
        rc = spool_copy(t->fd, path, plain, err);
        close(t->fd);
        t->fd = plain;
    }
    return rc;
}

int source_tar_open(const char *path, struct store *store, struct source **out,
                    struct sm_error *err)
{
    struct tar_source *t = calloc(1, sizeof *t);
    *out = NULL;
    if (!t || !(t->src.label = strdup(path))) {
        free(t);
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    t->src.ops = &tar_ops;
    t->fd = -1;
    int rc = open_plain(t, path, store, err);
    if (!rc) {
        rc = read_index(t, err);
    }
    if (rc) {
        tar_free(&t->src);
        return rc;
    }
    *out = &t->src;
    return SM_OK;
}
