// SPDX-License-Identifier: Apache-2.0
/*
 * The payload of a bzImage, unpacked as a stream. The build appends the unpacked size (4 bytes) to
 * every kind of payload but gzip's, whose own trailer ends in it; those bytes are not part of the
 * compressed stream (boot.rst, "payload_length").
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/unpack.h"
#include "vm/kernel.h"

#define INPUT_CHUNK 65536

struct payload {
    struct kernel_stream base;
    struct file_stream *src; /* borrowed */
    struct unpack *unpack;   /* owned; NULL for an unpacked payload */
    uint64_t produced;
    uint8_t input[INPUT_CHUNK];
};

static int next_input(void *opaque, const uint8_t **data, size_t *len, struct sm_error *err)
{
    struct payload *p = opaque;
    struct sm_error own = {0};
    int64_t n = p->src->base.read(&p->src->base, p->input, sizeof p->input, &own);
    *data = p->input;
    *len = n > 0 ? (size_t)n : 0;
    return n < 0 ? err_set(err, own.code, "%s", own.text) : 0;
}

static int64_t payload_read(struct kernel_stream *s, void *data, size_t len, struct sm_error *err)
{
    struct payload *p = (struct payload *)s;
    int64_t n;
    if (p->unpack) {
        size_t got;
        int rc = unpack_read(p->unpack, data, len, &got, err);
        if (rc == SM_ECORRUPT)
            err_wrap(err, rc, "its compressed payload is broken");
        if (rc)
            return -1;
        n = (int64_t)got;
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

int payload_new(struct file_stream *src, struct payload **out, struct sm_error *err)
{
    uint8_t head[UNPACK_HEAD] = {0};
    *out = NULL;
    ssize_t got =
        pread(src->fd, head, src->left < sizeof head ? src->left : sizeof head, (off_t)src->offset);
    if (got < 0)
        return err_sys(err, "cannot read the payload");
    enum unpack_format format = unpack_detect(head, (size_t)got);
    if (format == UNPACK_NONE && (got < 4 || memcmp(head, "\177ELF", 4) != 0))
        return err_set(err, SM_EUNSUPPORTED,
                       "its payload has an unknown compression (first bytes %02x %02x %02x %02x)",
                       head[0], head[1], head[2], head[3]);
    if (format != UNPACK_NONE && format != UNPACK_GZIP)
        src->left = src->left > 4 ? src->left - 4 : 0;

    struct payload *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(err, SM_ENOMEM, "out of memory");
    p->base.read = payload_read;
    p->src = src;
    if (format != UNPACK_NONE) {
        int rc = unpack_new(format, (struct unpack_source){next_input, p}, &p->unpack, err);
        if (rc) {
            payload_free(p);
            return rc;
        }
    }
    *out = p;
    return 0;
}

void payload_free(struct payload *p)
{
    if (!p)
        return;
    unpack_free(p->unpack);
    free(p);
}

struct kernel_stream *payload_stream(struct payload *p)
{
    return &p->base;
}
