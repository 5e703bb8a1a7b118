/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk. A request is a 16-byte header and data, then what the device writes: data, and a
 * status byte at the very end (VIRTIO 1.2 section 5.2.6). The header is read once; descriptors have
 * no meaning of their own, so it may be spread over any number of them.
 */
#include "dev/blk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/le.h"

#define F_SIZE_MAX (1ull << 1)
#define F_SEG_MAX (1ull << 2)
#define F_RO (1ull << 5)
#define F_FLUSH (1ull << 9)
#define F_DISCARD (1ull << 13)
#define F_WRITE_ZEROES (1ull << 14)

#define T_IN 0u
#define T_OUT 1u
#define T_FLUSH 4u
#define T_GET_ID 8u
#define T_DISCARD 11u
#define T_WRITE_ZEROES 13u

#define S_OK 0u
#define S_IOERR 1u
#define S_UNSUPP 2u

#define HEADER 16u
#define RANGE 16u
#define RANGE_UNMAP 1u
#define CONFIG_LEN 60u
#define TURN 16 /* requests handled before other work of the loop gets its turn */

struct blk {
    struct virtio virtio;
    struct disk disk;
    uint8_t id[BLK_ID_LEN];
    void (*on_error)(void *opaque, const char *text);
    void *opaque; /* borrowed */
    char name[256];
    bool failed; /* on_error was called */
    struct virtq_chain chain;
    struct iovec iov[VIRTQ_MAX_SIZE];
};

static void config(void *opaque, uint8_t *out)
{
    struct blk *b = opaque;

    memset(out, 0, CONFIG_LEN);
    le64_put(out, b->disk.bytes / DISK_SECTOR);
    le32_put(out + 8, BLK_SEGMENT_MAX);
    le32_put(out + 12, VIRTQ_MAX_SIZE - 2); /* besides header and status */
    le32_put(out + 36, BLK_DISCARD_MAX);
    le32_put(out + 40, BLK_RANGES_MAX);
    le32_put(out + 44, 4096 / DISK_SECTOR); /* alignment: the host gives whole blocks back */
    le32_put(out + 48, BLK_ZEROES_MAX);
    le32_put(out + 52, BLK_RANGES_MAX);
    out[56] = 1; /* write_zeroes_may_unmap */
}

/* The status for a result of host/disk.h. */
static uint8_t judge(struct blk *b, const char *what, int why)
{
    if (why == 0)
        return S_OK;
    if (!b->failed && b->on_error != NULL) {
        char text[512], reason[128];

        snprintf(text, sizeof text, "%s: %s: %s; the guest sees an I/O error", b->name, what,
                 why == EIO ? "the host's disk failed, or the file was cut short"
                            : strerror_r(why, reason, sizeof reason));
        b->on_error(b->opaque, text);
    }
    b->failed = true;
    return S_IOERR;
}

static bool in_disk(const struct blk *b, uint64_t sector, uint64_t sectors)
{
    uint64_t capacity = b->disk.bytes / DISK_SECTOR;

    return sector <= capacity && sectors <= capacity - sector;
}

/* Whether the data of a read or write is whole sectors inside the disk. */
static bool data_fits(const struct blk *b, uint64_t sector, uint32_t len)
{
    return len % DISK_SECTOR == 0 && len <= BLK_DATA_MAX && in_disk(b, sector, len / DISK_SECTOR);
}

static uint8_t do_read(struct blk *b, uint64_t sector, uint32_t *written)
{
    const struct virtq_chain *c = &b->chain;
    uint32_t len = c->in_bytes - 1;
    unsigned n;
    uint8_t status;

    if (c->out_bytes != HEADER || !data_fits(b, sector, len))
        return S_IOERR;
    n = virtq_chain_slice(c, true, 0, len, b->iov);
    status = judge(b, "reading", disk_read(&b->disk, sector * DISK_SECTOR, b->iov, n));
    /* A part may have been read: what we say is written is so in any case. */
    n = status == S_OK ? 0 : virtq_chain_slice(c, true, 0, len, b->iov);
    for (unsigned i = 0; i < n; i++)
        memset(b->iov[i].iov_base, 0, b->iov[i].iov_len);
    *written = len;
    return status;
}

static uint8_t do_write(struct blk *b, uint64_t sector)
{
    const struct virtq_chain *c = &b->chain;
    uint32_t len = c->out_bytes - HEADER;
    unsigned n;
    int why;

    if (b->disk.read_only || c->in_bytes != 1 || !data_fits(b, sector, len))
        return S_IOERR;
    n = virtq_chain_slice(c, false, HEADER, len, b->iov);
    why = disk_write(&b->disk, sector * DISK_SECTOR, b->iov, n);
    if (why == 0 && !(b->virtio.driver_features & F_FLUSH))
        why = disk_flush(&b->disk);
    return judge(b, "writing", why);
}

static uint8_t do_flush(struct blk *b)
{
    if (b->chain.out_bytes != HEADER || b->chain.in_bytes != 1)
        return S_IOERR;
    return judge(b, "flushing", disk_flush(&b->disk));
}

static uint8_t do_get_id(struct blk *b, uint32_t *written)
{
    if (b->chain.out_bytes != HEADER || b->chain.in_bytes != BLK_ID_LEN + 1)
        return S_IOERR;
    *written = virtq_chain_write(&b->chain, 0, b->id, BLK_ID_LEN);
    return S_OK;
}

/* One of the ranges of a discard or write zeroes: checked (do_it false), or done. */
static uint8_t do_range(struct blk *b, uint32_t type, uint32_t index, bool do_it)
{
    bool zero = type == T_WRITE_ZEROES;
    uint8_t raw[RANGE];
    uint64_t sector, sectors;
    uint32_t flags;

    virtq_chain_read(&b->chain, HEADER + index * RANGE, raw, RANGE);
    sector = le64_get(raw);
    sectors = le32_get(raw + 8);
    flags = le32_get(raw + 12);
    /* 5.2.6.2: reserved flags, and unmap where it says nothing, are not understood. */
    if (flags & ~(zero ? RANGE_UNMAP : 0u))
        return S_UNSUPP;
    if (!in_disk(b, sector, sectors) || sectors > (zero ? BLK_ZEROES_MAX : BLK_DISCARD_MAX))
        return S_IOERR;
    if (!do_it)
        return S_OK;
    sector *= DISK_SECTOR;
    sectors *= DISK_SECTOR;
    return zero ? judge(b, "writing zeros",
                        disk_zero(&b->disk, sector, sectors, (flags & RANGE_UNMAP) != 0))
                : judge(b, "discarding", disk_discard(&b->disk, sector, sectors));
}

static uint8_t do_ranges(struct blk *b, uint32_t type)
{
    uint64_t feature = type == T_DISCARD ? F_DISCARD : F_WRITE_ZEROES;
    uint32_t len = b->chain.out_bytes - HEADER;
    uint8_t status = S_OK;

    if (!(b->virtio.driver_features & feature))
        return S_UNSUPP;
    if (b->disk.read_only || b->chain.in_bytes != 1 || len == 0 || len % RANGE != 0 ||
        len / RANGE > BLK_RANGES_MAX)
        return S_IOERR;
    /* All are checked before any is done; each is checked again, for the guest may change them. */
    for (uint32_t i = 0; i < len / RANGE && status == S_OK; i++)
        status = do_range(b, type, i, false);
    for (uint32_t i = 0; i < len / RANGE && status == S_OK; i++)
        status = do_range(b, type, i, true);
    return status;
}

static uint8_t request(struct blk *b, uint32_t *written)
{
    uint8_t header[HEADER];
    uint64_t sector;
    uint32_t type;

    if (virtq_chain_read(&b->chain, 0, header, HEADER) != HEADER)
        return S_IOERR;
    type = le32_get(header);
    sector = le64_get(header + 8);
    switch (type) {
    case T_IN:
        return do_read(b, sector, written);
    case T_OUT:
        return do_write(b, sector);
    case T_FLUSH:
        return do_flush(b);
    case T_GET_ID:
        return do_get_id(b, written);
    case T_DISCARD:
    case T_WRITE_ZEROES:
        return do_ranges(b, type);
    default:
        return S_UNSUPP;
    }
}

/* Do the request in b->chain. Returns how many of the first writable bytes are filled: all, or
 * where data is missing none; the status then stands alone at the end. */
static uint32_t answer(struct blk *b)
{
    const struct virtq_chain *c = &b->chain;
    unsigned last = c->n_out + c->n_in - 1;
    uint32_t written = 0;
    uint8_t status;

    if (c->in_bytes == 0)
        return 0;
    status = request(b, &written);
    virtq_chain_write(c, c->in_bytes - 1, &status, 1);
    if (written == c->in_bytes - 1)
        return c->in_bytes;
    mem_wrote(b->virtio.env.mem, c->gpa[last] + c->iov[last].iov_len - 1, 1);
    return 0;
}

static void kick(void *opaque, unsigned queue)
{
    struct blk *b = opaque;
    struct virtq *q = &b->virtio.queues[queue];
    int turn;

    for (turn = 0; turn < TURN && virtq_pop(q, &b->chain) > 0; turn++)
        virtq_push(q, &b->chain, answer(b));
    if (turn == TURN)
        virtio_kick(&b->virtio, queue);
    virtio_interrupt(&b->virtio, queue);
}

static void nothing(void *opaque)
{
    (void)opaque; /* no request outlives the kick that took it */
}

static const struct virtio_ops writable = {
    .name = "blk",
    .device_id = 2,
    .n_queues = 1,
    .config_len = CONFIG_LEN,
    .features = F_SIZE_MAX | F_SEG_MAX | F_FLUSH | F_DISCARD | F_WRITE_ZEROES,
    .config = config,
    .start = nothing,
    .kick = kick,
    .reset = nothing,
};
static const struct virtio_ops read_only = {
    .name = "blk",
    .device_id = 2,
    .n_queues = 1,
    .config_len = CONFIG_LEN,
    .features = F_SIZE_MAX | F_SEG_MAX | F_RO,
    .config = config,
    .start = nothing,
    .kick = kick,
    .reset = nothing,
};

int blk_new(const struct virtio_env *env, const struct blk_config *cfg, struct blk **out,
            struct sm_error *err)
{
    struct blk *b = calloc(1, sizeof *b);
    int rc;

    *out = NULL;
    if (b == NULL)
        return err_set(err, SM_ENOMEM, "out of memory");
    b->disk = cfg->disk;
    b->on_error = cfg->on_error;
    b->opaque = cfg->opaque;
    memcpy(b->id, cfg->id, strnlen(cfg->id, BLK_ID_LEN));
    snprintf(b->name, sizeof b->name, "%s", cfg->name);
    loop_lock(env->loop);
    rc = virtio_init(&b->virtio, cfg->disk.read_only ? &read_only : &writable, b, env, err);
    loop_unlock(env->loop);
    if (rc != 0) {
        free(b);
        return rc;
    }
    *out = b;
    return 0;
}

void blk_free(struct blk *b)
{
    struct loop *loop;

    if (b == NULL)
        return;
    loop = b->virtio.env.loop;
    loop_lock(loop);
    virtio_fini(&b->virtio);
    loop_unlock(loop);
    disk_fini(&b->disk);
    free(b);
}

struct virtio *blk_virtio(struct blk *b)
{
    return &b->virtio;
}

int blk_copy(const struct blk *b, int to, struct sm_error *err)
{
    int why = disk_copy(&b->disk, to);

    errno = why;
    return why == 0 ? 0 : err_sys(err, "cannot copy %s", b->name);
}

void blk_walk(struct state *s, void *object)
{
    struct blk *b = object;

    state_same(s, b->disk.bytes, "a volume has another size");
    state_same(s, b->disk.read_only, "a volume is read-only in one and writable in the other");
}
