/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File contents. A plain file is its bytes, padded to a block. A sparse file is cut into chunks:
 * those that any extent touches are written whole, one after the other; the others are holes and
 * take no space.
 */
#include "image/erofs_parts.h"

#include <stdlib.h>
#include <string.h>
#include <sys/param.h>

#define CHUNKS_MAX 65536u /* of one file: 256 KiB of chunk table */

uint64_t erofs_chunk_count(const struct tree_inode *inode)
{
    uint64_t mask = (UINT64_C(1) << inode->chunk_bits) - 1;
    return (inode->size >> inode->chunk_bits) + ((inode->size & mask) != 0);
}

/* Chunks that the extents touch; runs may be NULL (only count). */
static uint64_t make_runs(const struct tarball_extent *e, size_t count, unsigned bits,
                          struct tree_run *runs, size_t *run_count)
{
    uint64_t total = 0, next = 0; /* chunks below next are accounted for */
    *run_count = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t first = e[i].offset >> bits, end = ((e[i].offset + e[i].len - 1) >> bits) + 1;
        if (first < next) {
            first = next;
        }
        if (first >= end) {
            continue;
        }
        if (*run_count && first == next) {
            if (runs) {
                runs[*run_count - 1].count += end - first;
            }
        } else {
            if (runs) {
                runs[*run_count] = (struct tree_run){first, end - first, 0};
            }
            ++*run_count;
        }
        total += end - first;
        next = end;
    }
    return total;
}

/* The largest chunk that does not more than double the space of the data, within CHUNKS_MAX. */
static unsigned choose_bits(const struct tree_inode *inode, const struct tarball_extent *e,
                            size_t count)
{
    uint64_t data = 0;
    size_t runs;
    unsigned bits = EROFS_BLOCK_BITS, least;
    for (size_t i = 0; i < count; i++) {
        data += e[i].len;
    }
    while (bits < EROFS_BLOCK_BITS + CHUNK_BITS_MAX &&
           (inode->size - (inode->size > 0)) >> bits >= CHUNKS_MAX) {
        bits++;
    }
    for (least = bits; (inode->size - (inode->size > 0)) >> bits; bits++) {
        if (bits == EROFS_BLOCK_BITS + CHUNK_BITS_MAX) {
            break;
        }
    }
    while (bits > least) {
        uint64_t touched = make_runs(e, count, bits, NULL, &runs);
        if (touched == 0 || touched <= (2 * data + 65536) >> bits) {
            break;
        }
        bits--;
    }
    return bits;
}

static int begin_sparse(struct erofs *w, struct tree *tree, struct tree_inode *inode,
                        struct sm_error *err)
{
    size_t count;
    inode->chunk_bits = (uint8_t)choose_bits(inode, w->extents, w->extent_count);
    uint64_t chunks = make_runs(w->extents, w->extent_count, inode->chunk_bits, NULL, &count);
    int rc = tree_charge(tree, count * sizeof *inode->runs, err);
    if (rc) {
        return rc;
    }
    if (count) {
        inode->runs = calloc(count, sizeof *inode->runs);
        if (!inode->runs) {
            return err_set(err, SM_ENOMEM, "out of memory for a sparse file");
        }
        make_runs(w->extents, w->extent_count, inode->chunk_bits, inode->runs, &count);
    }
    inode->run_count = (uint32_t)count;
    /* In one piece, in order: the run's blocks follow from its place. */
    uint64_t block = erofs_out_pos(&w->out) >> EROFS_BLOCK_BITS;
    if (chunks > (w->out.max >> inode->chunk_bits)) {
        return err_set(err, SM_EUNSUPPORTED,
                       "sparse file needs more than the image limit of %llu MiB",
                       (unsigned long long)(w->out.max >> 20));
    }
    for (size_t i = 0; i < count; i++) {
        inode->runs[i].block = (uint32_t)block;
        block += inode->runs[i].count << (inode->chunk_bits - EROFS_BLOCK_BITS);
        if (block > UINT32_MAX) {
            return err_set(err, SM_EUNSUPPORTED, "layer image is larger than 16 TiB");
        }
    }
    w->chunked = true;
    return 0;
}

int erofs_file_begin(struct erofs *w, struct tree *tree, struct tree_inode *inode,
                     const struct tarball_extent *extents, size_t extent_count, bool sparse,
                     struct sm_error *err)
{
    w->inode = inode;
    w->extents = extents;
    w->extent_count = extent_count;
    w->at = 0;
    w->at_offset = 0;
    w->run = 0;
    if (sparse) {
        return begin_sparse(w, tree, inode, err);
    }
    if (inode->size > w->out.max) {
        return err_set(err, SM_EUNSUPPORTED, "file is larger than the image limit of %llu MiB",
                       (unsigned long long)(w->out.max >> 20));
    }
    inode->block = inode->size ? (uint32_t)(erofs_out_pos(&w->out) >> EROFS_BLOCK_BITS) : 0;
    return 0;
}

/* File offset -> place in the image, inside the run that holds it. */
static uint64_t place(const struct erofs *w, uint64_t offset)
{
    const struct tree_run *r = &w->inode->runs[w->run];
    return ((uint64_t)r->block << EROFS_BLOCK_BITS) + (offset - (r->first << w->inode->chunk_bits));
}

static int sparse_data(struct erofs *w, const uint8_t *p, size_t len, struct sm_error *err)
{
    while (len) {
        const struct tarball_extent *e = &w->extents[w->at];
        uint64_t offset = e->offset + w->at_offset;
        while (offset >> w->inode->chunk_bits >=
               w->inode->runs[w->run].first + w->inode->runs[w->run].count) {
            w->run++;
        }
        uint64_t target = place(w, offset);
        int rc = erofs_out_zero(&w->out, target - erofs_out_pos(&w->out), err);
        if (rc) {
            return rc;
        }
        size_t n = (size_t)MIN((uint64_t)len, e->len - w->at_offset);
        rc = erofs_out_write(&w->out, p, n, err);
        if (rc) {
            return rc;
        }
        p += n;
        len -= n;
        w->at_offset += n;
        if (w->at_offset == e->len) {
            w->at++;
            w->at_offset = 0;
        }
    }
    return 0;
}

int erofs_file_data(struct erofs *w, const void *data, size_t len, struct sm_error *err)
{
    if (w->inode->chunk_bits) {
        return sparse_data(w, data, len, err);
    }
    return erofs_out_write(&w->out, data, len, err);
}

int erofs_file_end(struct erofs *w, struct sm_error *err)
{
    const struct tree_inode *inode = w->inode;
    w->inode = NULL;
    w->extents = NULL;
    if (inode->chunk_bits && inode->run_count) {
        /* The last chunk ends with the file. */
        const struct tree_run *r = &inode->runs[inode->run_count - 1];
        uint64_t start = r->first << inode->chunk_bits;
        uint64_t len = MIN(r->count << inode->chunk_bits, inode->size - start);
        uint64_t end = ((uint64_t)r->block << EROFS_BLOCK_BITS) + len;
        int rc = erofs_out_zero(&w->out, end - erofs_out_pos(&w->out), err);
        if (rc) {
            return rc;
        }
    }
    return erofs_out_align(&w->out, err);
}
