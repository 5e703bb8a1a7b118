/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tar archive as a source. One pass over the headers makes an index: name, type, link target and
 * where the entry begins. An entry is then read by a fresh libarchive reader started at that
 * offset, so order does not matter and nothing is ever written under a name from the archive.
 * Compressed or unseekable archives are unpacked into one unnamed file first (tar_spool.c).
 */
#include "image/source.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/tar_reader.h"

#define MAX_ENTRIES 100000
#define MAX_NAME_BYTES (16u << 20) /* of all names and links together */
#define MAX_HOPS 8

struct entry {
    char *name;   /* owned; cleaned: no leading "/" or "./" */
    char *target; /* owned; cleaned, from the archive's root; NULL unless a link */
    int64_t offset;
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
    struct tar_reader reader;
    uint64_t left;
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

static int add_entry(struct tar_source *t, struct archive_entry *e, int64_t offset,
                     struct sm_error *err)
{
    const char *name = archive_entry_pathname(e);
    const char *hard = archive_entry_hardlink(e);
    const char *soft = archive_entry_symlink(e);
    bool file = !hard && archive_entry_filetype(e) == AE_IFREG;
    if (!name || !(file || hard || soft)) {
        /* Folders and oddities hold nothing that we read; nor do names that libarchive cannot put
         * into the process's locale, as all that we look for is ASCII. */
        return SM_OK;
    }
    t->name_bytes += strlen(name) * 2 + (hard ? strlen(hard) : soft ? strlen(soft) : 0);
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
    *x = (struct entry){.offset = offset, .file = file};
    x->size_bytes = file ? (uint64_t)archive_entry_size(e) : 0;
    x->name = clean_name("", 0, name);
    if (!x->name) {
        return SM_OK; /* leaves the root: nobody will ask for it */
    }
    if (hard) {
        x->target = clean_name("", 0, hard);
    } else if (soft) {
        const char *slash = strrchr(x->name, '/');
        x->target = soft[0] == '/'
                        ? clean_name("", 0, soft)
                        : clean_name(x->name, slash ? (size_t)(slash - x->name) : 0, soft);
    }
    t->n++;
    return SM_OK;
}

static int read_index(struct tar_source *t, struct sm_error *err)
{
    struct tar_reader r;
    int rc = tar_reader_open(&r, t->fd, 0, err);
    while (!rc) {
        struct archive_entry *e;
        int status = archive_read_next_header(r.archive, &e);
        if (status == ARCHIVE_EOF) {
            break;
        }
        if (status != ARCHIVE_OK && status != ARCHIVE_WARN) {
            rc = err_set(err, SM_ECORRUPT, "%s is not a complete tar archive: %s", t->src.label,
                         archive_error_string(r.archive));
            break;
        }
        rc = add_entry(t, e, archive_read_header_position(r.archive), err);
    }
    tar_reader_close(&r);
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
    size_t want = len < s->left ? len : (size_t)s->left;
    ssize_t n = want ? archive_read_data(s->reader.archive, data, want) : 0;
    if (n < 0) {
        errno = EBADMSG;
        return -1;
    }
    s->left -= (uint64_t)n;
    return n;
}

static void entry_close(struct stream *stream)
{
    struct entry_stream *s = (struct entry_stream *)stream;
    tar_reader_close(&s->reader);
    free(s);
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
    int rc = tar_reader_open(&s->reader, t->fd, x->offset, err);
    struct archive_entry *e;
    if (!rc) {
        int status = archive_read_next_header(s->reader.archive, &e);
        /* Read alone, without what came before it, the entry must still be the same one. */
        if ((status != ARCHIVE_OK && status != ARCHIVE_WARN) ||
            (uint64_t)archive_entry_size(e) != x->size_bytes) {
            rc = err_set(err, SM_ECORRUPT, "%s: cannot read the entry %s", src->label, name);
        }
    }
    if (rc) {
        entry_close(&s->stream);
        return rc;
    }
    s->stream = (struct stream){entry_read, entry_close, x->size_bytes};
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
    int rc = S_ISREG(st.st_mode) ? tar_is_compressed(t->fd, path, &compressed, err) : SM_OK;
    if (rc || !compressed) {
        return rc;
    }
    int plain;
    rc = store_temp_file(store, &plain, err);
    if (!rc) {
        rc = tar_unpack(t->fd, path, plain, err);
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
