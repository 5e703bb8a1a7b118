/* SPDX-License-Identifier: Apache-2.0 */
#include "image/spool.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/io.h"
#include "base/unpack.h"

#define BLOCK 65536
#define MAX_UNPACKED_BYTES (256ull << 30)

struct input {
    int fd;
    bool first_given; /* the first block, which was read to see what it is */
    size_t first_len;
    uint8_t first[BLOCK], block[BLOCK];
};

static enum unpack_format archive_format(const uint8_t *head, size_t len)
{
    enum unpack_format f = unpack_detect(head, len);
    return f == UNPACK_LZMA || f == UNPACK_LZ4 ? UNPACK_NONE : f; /* not told apart from a name */
}

int spool_is_needed(int fd, const char *label, bool *out, struct sm_error *err)
{
    uint8_t head[UNPACK_HEAD];
    ssize_t n = pread(fd, head, sizeof head, 0);
    if (n < 0) {
        return err_sys(err, "cannot read %s", label);
    }
    *out = archive_format(head, (size_t)n) != UNPACK_NONE;
    return SM_OK;
}

static int next_input(void *opaque, const uint8_t **data, size_t *len, struct sm_error *err)
{
    struct input *in = opaque;
    if (!in->first_given) {
        in->first_given = true;
        *data = in->first;
        *len = in->first_len;
        return 0;
    }
    ssize_t n = io_read_full(in->fd, in->block, sizeof in->block);
    *data = in->block;
    *len = n > 0 ? (size_t)n : 0;
    return n < 0 ? err_sys(err, "cannot read it") : 0;
}

/* One block of the plain bytes. */
static int plain_block(struct input *in, struct unpack *u, uint8_t *room, const uint8_t **data,
                       size_t *len, struct sm_error *err)
{
    *data = room;
    return u ? unpack_read(u, room, BLOCK, len, err) : next_input(in, data, len, err);
}

static int copy_out(struct input *in, struct unpack *u, int out_fd, struct sm_error *err)
{
    uint8_t *room = malloc(BLOCK);
    int rc = room ? SM_OK : err_set(err, SM_ENOMEM, "out of memory");
    for (uint64_t total = 0; !rc;) {
        const uint8_t *data;
        size_t len;
        rc = plain_block(in, u, room, &data, &len, err);
        if (rc || len == 0) {
            break;
        }
        if ((total += len) > MAX_UNPACKED_BYTES) {
            rc = err_set(err, SM_EUNSUPPORTED, "it has more than %llu GiB",
                         MAX_UNPACKED_BYTES >> 30);
        } else if (io_write_full(out_fd, data, len)) {
            rc = err_sys(err, "no room for it in the store");
        }
    }
    free(room);
    return rc;
}

int spool_copy(int in_fd, const char *label, int out_fd, struct sm_error *err)
{
    struct unpack *u = NULL;
    struct input *in = calloc(1, sizeof *in);
    if (!in) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    in->fd = in_fd;
    ssize_t n = io_read_full(in_fd, in->first, sizeof in->first);
    in->first_len = n > 0 ? (size_t)n : 0;
    int rc = n < 0    ? err_sys(err, "cannot read it")
             : n == 0 ? err_set(err, SM_ECORRUPT, "it is empty")
                      : SM_OK;
    enum unpack_format format = archive_format(in->first, in->first_len);
    if (!rc && format != UNPACK_NONE) {
        rc = unpack_new(format, (struct unpack_source){next_input, in}, &u, err);
    }
    rc = rc ? rc : copy_out(in, u, out_fd, err);
    unpack_free(u);
    free(in);
    return rc ? err_wrap(err, rc, "cannot unpack %s", label) : SM_OK;
}
