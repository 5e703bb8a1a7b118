/* SPDX-License-Identifier: Apache-2.0 */
/* Buffered appending to the image file; long stretches of zeros become holes. */
#include "image/erofs_parts.h"

#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <unistd.h>

#include "base/io.h"

#define BUFFER (1u << 20)
#define HOLE_MIN 65536 /* shorter zeros are cheaper written */

int erofs_out_init(struct erofs_out *o, int fd, uint64_t max, struct sm_error *err)
{
    *o = (struct erofs_out){.fd = fd, .max = max};
    o->buf = malloc(BUFFER);
    if (!o->buf) {
        return err_set(err, SM_ENOMEM, "out of memory for the layer image's buffer");
    }
    if (ftruncate(fd, 0)) {
        return err_sys(err, "cannot empty the layer image file");
    }
    return 0;
}

void erofs_out_fini(struct erofs_out *o)
{
    free(o->buf);
    o->buf = NULL;
}

uint64_t erofs_out_pos(const struct erofs_out *o)
{
    return o->start + o->fill;
}

/* Zeros at the front of data that are worth a hole. */
static size_t leading_hole(const uint8_t *data, size_t len)
{
    size_t hole = 0;
    while (len - hole >= HOLE_MIN && data[hole] == 0 &&
           memcmp(data + hole, data + hole + 1, HOLE_MIN - 1) == 0) {
        hole += HOLE_MIN;
    }
    return hole;
}

/* Bytes before the next HOLE_MIN that are all zero. */
static size_t leading_data(const uint8_t *data, size_t len)
{
    size_t n = MIN(len, (size_t)HOLE_MIN);
    while (n < len && leading_hole(data + n, len - n) == 0) {
        n += MIN(len - n, (size_t)HOLE_MIN);
    }
    return n;
}

static int put(struct erofs_out *o, const uint8_t *data, size_t len, struct sm_error *err)
{
    while (len) {
        size_t hole = leading_hole(data, len);
        data += hole;
        len -= hole;
        o->start += hole;
        if (!len) {
            break;
        }
        size_t n = leading_data(data, len);
        if (io_pwrite_full(o->fd, data, n, o->start)) {
            return err_sys(err, "cannot write the layer image");
        }
        data += n;
        len -= n;
        o->start += n;
    }
    return 0;
}

int erofs_out_flush(struct erofs_out *o, struct sm_error *err)
{
    size_t len = o->fill;
    o->fill = 0;
    return put(o, o->buf, len, err);
}

static int check_room(const struct erofs_out *o, uint64_t len, struct sm_error *err)
{
    if (len > o->max - erofs_out_pos(o)) {
        return err_set(err, SM_EUNSUPPORTED, "layer image is larger than the limit of %llu MiB",
                       (unsigned long long)(o->max >> 20));
    }
    return 0;
}

int erofs_out_write(struct erofs_out *o, const void *data, size_t len, struct sm_error *err)
{
    const uint8_t *p = data;
    int rc = check_room(o, len, err);
    while (!rc && len) {
        if (o->fill == 0 && len >= BUFFER) {
            return put(o, p, len, err);
        }
        size_t n = MIN(len, BUFFER - o->fill);
        memcpy(o->buf + o->fill, p, n);
        o->fill += n;
        p += n;
        len -= n;
        if (o->fill == BUFFER) {
            rc = erofs_out_flush(o, err);
        }
    }
    return rc;
}

int erofs_out_zero(struct erofs_out *o, uint64_t len, struct sm_error *err)
{
    int rc = check_room(o, len, err);
    if (!rc && len >= HOLE_MIN) {
        rc = erofs_out_flush(o, err);
        if (!rc) {
            o->start += len;
        }
        return rc;
    }
    while (!rc && len) {
        size_t n = MIN((size_t)len, BUFFER - o->fill);
        memset(o->buf + o->fill, 0, n);
        o->fill += n;
        len -= n;
        if (o->fill == BUFFER) {
            rc = erofs_out_flush(o, err);
        }
    }
    return rc;
}

int erofs_out_align(struct erofs_out *o, struct sm_error *err)
{
    return erofs_out_zero(o, -erofs_out_pos(o) % EROFS_BLOCK, err);
}
