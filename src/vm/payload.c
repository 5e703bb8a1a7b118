// SPDX-License-Identifier: Apache-2.0
/*
 * The payload of a bzImage, unpacked as a stream by libarchive's filters ("raw" format). Only
 * filters that run inside this process are enabled: libarchive would start a program for the
 * others. The build appends the unpacked size (4 bytes) to every kind of payload but gzip's, whose
 * own trailer ends in it; those bytes are not part of the compressed stream (boot.rst,
 * "payload_length").
 */
#include <archive.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm/kernel.h"

#define INPUT_CHUNK 65536

struct payload {
    struct kernel_stream base;
    struct file_stream *src;  /* borrowed */
    struct archive *archive;  /* owned; NULL for an unpacked payload */
    struct sm_error *src_err; /* borrowed during one call: where the input callback reports */
    uint64_t produced;
    uint8_t input[INPUT_CHUNK];
};

enum payload_kind { PAYLOAD_NONE, PAYLOAD_GZIP, PAYLOAD_OTHER };

/* One row per compression that the kernel's build knows (lib/decompress.c) and we unpack. */
static const struct payload_magic {
    uint8_t bytes[6];
    uint8_t len;
    enum payload_kind kind;
    int (*enable)(struct archive *a);
} payload_magics[] = {
    {{0x7f, 'E', 'L', 'F'}, 4, PAYLOAD_NONE, NULL},
    {{0x1f, 0x8b}, 2, PAYLOAD_GZIP, archive_read_support_filter_gzip},
    {{'B', 'Z', 'h'}, 3, PAYLOAD_OTHER, archive_read_support_filter_bzip2},
    {{0x5d, 0x00, 0x00}, 3, PAYLOAD_OTHER, archive_read_support_filter_lzma},
    {{0xfd, '7', 'z', 'X', 'Z', 0x00}, 6, PAYLOAD_OTHER, archive_read_support_filter_xz},
    {{0x02, 0x21, 0x4c, 0x18}, 4, PAYLOAD_OTHER, archive_read_support_filter_lz4},
    {{0x28, 0xb5, 0x2f, 0xfd}, 4, PAYLOAD_OTHER, archive_read_support_filter_zstd},
};

static la_ssize_t on_input(struct archive *a, void *opaque, const void **data)
{
    struct payload *p = opaque;
    int64_t n = p->src->base.read(&p->src->base, p->input, sizeof p->input, p->src_err);
    *data = p->input;
    if (n < 0)
        archive_set_error(a, EIO, "input");
    return (la_ssize_t)n;
}

static int unpack_error(struct payload *p, struct sm_error *err)
{
    const char *why = archive_error_string(p->archive);
    return err_set(err, SM_ECORRUPT, "its compressed payload is broken: %s", why ? why : "?");
}

static int64_t payload_read(struct kernel_stream *s, void *data, size_t len, struct sm_error *err)
{
    struct payload *p = (struct payload *)s;
    struct sm_error input_err = {0};
    int64_t n;
    if (p->archive) {
        p->src_err = &input_err;
        n = archive_read_data(p->archive, data, len);
        p->src_err = NULL;
        if (n < 0) {
            if (input_err.code)
                err_set(err, input_err.code, "%s", input_err.text);
            else
                unpack_error(p, err);
            return -1;
        }
    } else {
        n = p->src->base.read(&p->src->base, data, len, err);
        if (n < 0)
            return -1;
    }
    p->produced += (uint64_t)n;
    if (p->produced > KERNEL_MAX_UNPACKED) {
        err_set(err, SM_ECORRUPT, "its payload unpacks to more than %llu MiB",
                KERNEL_MAX_UNPACKED >> 20);
        return -1;
    }
    return n;
}

static int open_archive(struct payload *p, const struct payload_magic *magic, struct sm_error *err)
{
    struct archive_entry *entry;
    p->archive = archive_read_new();
    if (!p->archive)
        return err_set(err, SM_ENOMEM, "out of memory");
    if (magic->enable(p->archive) != ARCHIVE_OK ||
        archive_read_support_format_raw(p->archive) != ARCHIVE_OK)
        return err_set(err, SM_EUNSUPPORTED, "its compression is not built into libarchive");
    p->src_err = err;
    int rc = archive_read_open(p->archive, p, NULL, on_input, NULL);
    if (rc == ARCHIVE_OK)
        rc = archive_read_next_header(p->archive, &entry);
    p->src_err = NULL;
    return rc == ARCHIVE_OK ? 0 : unpack_error(p, err);
}

int payload_new(struct file_stream *src, struct payload **out, struct sm_error *err)
{
    uint8_t head[6] = {0};
    const struct payload_magic *magic = NULL;
    *out = NULL;
    ssize_t got =
        pread(src->fd, head, src->left < sizeof head ? src->left : sizeof head, (off_t)src->offset);
    if (got < 0)
        return err_sys(err, "cannot read the payload");
    for (size_t i = 0; i < sizeof payload_magics / sizeof payload_magics[0]; i++) {
        if (got >= payload_magics[i].len &&
            memcmp(head, payload_magics[i].bytes, payload_magics[i].len) == 0)
            magic = &payload_magics[i];
    }
    if (!magic)
        return err_set(err, SM_EUNSUPPORTED,
                       "its payload has an unknown compression (first bytes %02x %02x %02x %02x)",
                       head[0], head[1], head[2], head[3]);
    if (magic->kind == PAYLOAD_OTHER)
        src->left = src->left > 4 ? src->left - 4 : 0;

    struct payload *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(err, SM_ENOMEM, "out of memory");
    p->base.read = payload_read;
    p->src = src;
    int rc = magic->kind == PAYLOAD_NONE ? 0 : open_archive(p, magic, err);
    if (rc) {
        payload_free(p);
        return rc;
    }
    *out = p;
    return 0;
}

void payload_free(struct payload *p)
{
    if (!p)
        return;
    archive_read_free(p->archive);
    free(p);
}

struct kernel_stream *payload_stream(struct payload *p)
{
    return &p->base;
}
