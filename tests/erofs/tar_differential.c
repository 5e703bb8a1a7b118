/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LY-14: mutated archives, listed by our reader and by libarchive. Either we refuse, or both say
 * the same: names, kinds, links, sizes, owners, modes and contents. Arguments: [MUTANTS [SEED]]. C
 * locale, so that libarchive leaves names alone.
 */
#include <archive.h>
#include <archive_entry.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/hash.h"
#include "image/tarball.h"

static uint64_t rng_next(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static void add(struct archive *a, const char *name, unsigned type, size_t size, const char *link,
                bool hard, int64_t uid)
{
    static const char data[3000] = "some data, then zeros";
    struct archive_entry *e = archive_entry_new();
    archive_entry_set_pathname(e, name);
    archive_entry_set_mode(e, type | 0644);
    archive_entry_set_size(e, (int64_t)size);
    archive_entry_set_uid(e, uid);
    archive_entry_set_mtime(e, 1700000000, 123456789);
    if (link && hard) {
        archive_entry_set_hardlink(e, link);
    } else if (link) {
        archive_entry_set_symlink(e, link);
    }
    if (type == AE_IFCHR) {
        archive_entry_set_rdevmajor(e, 5);
        archive_entry_set_rdevminor(e, 7);
    }
    if (archive_write_header(a, e) != ARCHIVE_OK ||
        (size && archive_write_data(a, data, size) != (ssize_t)size)) {
        fprintf(stderr, "tar_differential: seed: %s\n", archive_error_string(a));
        exit(1);
    }
    archive_entry_free(e);
}

static size_t make_seed(int format, uint8_t *out, size_t cap)
{
    static char long_name[181], long_link[181];
    struct archive *a = archive_write_new();
    size_t used = 0;
    memset(long_name, 'n', 180);
    memset(long_link, 'l', 180);
    if (format == 0) {
        archive_write_set_format_pax(a);
    } else if (format == 1) {
        archive_write_set_format_gnutar(a);
    } else {
        archive_write_set_format_ustar(a);
    }
    archive_write_set_bytes_per_block(a, 0);
    if (archive_write_open_memory(a, out, cap, &used) != ARCHIVE_OK) {
        exit(1);
    }
    add(a, "dir", AE_IFDIR, 0, NULL, false, 0);
    add(a, "dir/file", AE_IFREG, 1000, NULL, false, 1000);
    add(a, "hard", AE_IFREG, 0, "dir/file", true, 0);
    add(a, "sym", AE_IFLNK, 0, "dir/file", false, 0);
    add(a, "chr", AE_IFCHR, 0, NULL, false, 0);
    if (format != 2) {
        add(a, long_name, AE_IFREG, 513, NULL, false, 3000000);
        add(a, "s", AE_IFLNK, 0, long_link, false, 0);
    }
    add(a, "last", AE_IFREG, 512, NULL, false, 0);
    archive_write_free(a);
    return used;
}

/* Flip, copy and retype bytes, mostly in headers; then often repair the checksum so that it gets
 * past it. */
static void mutate(uint8_t *p, size_t len, uint64_t *rng)
{
    static const char likely[] = "0123456789xgLKSV5\0 /.\377\200=\n";
    size_t blocks = len / 512;
    for (uint64_t n = 1 + rng_next(rng) % 4; n; n--) {
        size_t block = rng_next(rng) % blocks, at = block * 512 + rng_next(rng) % 512;
        if (rng_next(rng) % 2) {
            static const uint16_t spots[] = {0,   99,  100, 124, 134, 135,
                                             156, 157, 257, 263, 345, 482};
            at = block * 512 + spots[rng_next(rng) % (sizeof spots / sizeof *spots)];
        }
        switch (rng_next(rng) % 3) {
        case 0:
            p[at] ^= (uint8_t)(1u << rng_next(rng) % 8);
            break;
        case 1:
            p[at] = (uint8_t)likely[rng_next(rng) % (sizeof likely - 1)];
            break;
        default:
            memcpy(p + block * 512, p + rng_next(rng) % blocks * 512, 512);
            at = block * 512;
        }
        if (rng_next(rng) % 4 && memcmp(p + at / 512 * 512 + 257, "ustar", 5) == 0) {
            uint8_t *h = p + at / 512 * 512;
            unsigned sum = 8 * ' ';
            for (int i = 0; i < 512; i++) {
                sum += i >= 148 && i < 156 ? 0 : h[i];
            }
            snprintf((char *)h + 148, 8, "%06o", sum);
            h[155] = ' ';
        }
    }
}

struct memory {
    const uint8_t *data;
    size_t len, at;
    size_t window;
};

static int memory_next(void *opaque, const uint8_t **data, size_t *len, struct sm_error *err)
{
    struct memory *m = opaque;
    *data = m->data + m->at;
    *len = m->len - m->at < m->window ? m->len - m->at : m->window;
    m->at += *len;
    return 0;
}

/* Names may be "dir/" in one reader and "dir" in the other, "//x" and "/x". */
static void print(struct buf *out, const char *name, const char *link, char kind, int64_t size,
                  int64_t uid, unsigned mode, const struct buf *data)
{
    char digest[DIGEST_STR_SIZE];
    while (name[0] == '/' && name[1] == '/') {
        name++;
    }
    size_t n = strlen(name);
    while (kind == 'd' && n > 1 && name[n - 1] == '/') {
        n--;
    }
    hash_bytes(data->data ? data->data : (const uint8_t *)"", data->len, digest);
    if (buf_printf(out, "%.*s|%s|%c|%" PRId64 "|%" PRId64 "|%o|%s\n", (int)n, name, link, kind,
                   size, uid, mode, digest)) {
        exit(1);
    }
}

static int list_ours(const uint8_t *p, size_t len, size_t window, struct buf *out)
{
    static const char kinds[] = {
        [TARBALL_REG] = 'f', [TARBALL_HARDLINK] = 'h', [TARBALL_SYMLINK] = 'l', [TARBALL_CHR] = 'c',
        [TARBALL_BLK] = 'b', [TARBALL_DIR] = 'd',      [TARBALL_FIFO] = 'p'};
    struct memory m = {p, len, 0, window};
    struct tarball *t = tarball_new((struct tarball_source){.next = memory_next, .opaque = &m});
    const struct tarball_entry *e;
    struct sm_error err;
    int rc;
    while ((rc = tarball_next(t, &e, &err)) == 0 && e) {
        struct buf data = {0};
        const uint8_t *piece;
        size_t n = 1, extent = 0;
        uint64_t filled = 0;
        while (rc == 0 && n) {
            rc = tarball_read(t, &piece, &n, &err);
            for (size_t k = 0; rc == 0 && k < n && e->size < (1u << 20); k++) {
                if (e->sparse && filled == e->extents[extent].len) {
                    extent++;
                    filled = 0;
                }
                if (e->sparse && filled++ == 0 &&
                    buf_fill(&data, 0, e->extents[extent].offset - data.len)) {
                    exit(1);
                }
                if (buf_append(&data, piece + k, 1)) {
                    exit(1);
                }
            }
        }
        if (rc == 0 && e->sparse && e->size < (1u << 20) &&
            buf_fill(&data, 0, e->size - data.len)) {
            exit(1);
        }
        if (rc == 0) {
            print(out, e->name, e->link, kinds[e->type], (int64_t)e->size, e->uid, e->mode, &data);
        }
        buf_fini(&data);
        if (rc) {
            break;
        }
    }
    tarball_free(t);
    return rc;
}

static char kind_of(struct archive_entry *e)
{
    if (archive_entry_hardlink(e)) {
        return 'h';
    }
    switch (archive_entry_filetype(e)) {
    case AE_IFREG:
        return 'f';
    case AE_IFLNK:
        return 'l';
    case AE_IFCHR:
        return 'c';
    case AE_IFBLK:
        return 'b';
    case AE_IFDIR:
        return 'd';
    case AE_IFIFO:
        return 'p';
    default:
        return '?';
    }
}

static void list_theirs(const uint8_t *p, size_t len, struct buf *out)
{
    struct archive *a = archive_read_new();
    struct archive_entry *e;
    int rc = ARCHIVE_OK;
    archive_read_support_format_tar(a);
    archive_read_open_memory(a, p, len);
    while ((rc = archive_read_next_header(a, &e)) == ARCHIVE_OK || rc == ARCHIVE_WARN) {
        struct buf data = {0};
        char piece[4096];
        ssize_t n;
        while (archive_entry_size(e) < (1 << 20) &&
               (n = archive_read_data(a, piece, sizeof piece)) > 0) {
            if (buf_append(&data, piece, (size_t)n)) {
                exit(1);
            }
        }
        const char *link =
            archive_entry_hardlink(e) ? archive_entry_hardlink(e) : archive_entry_symlink(e);
        print(out, archive_entry_pathname(e) ? archive_entry_pathname(e) : "", link ? link : "",
              kind_of(e), archive_entry_size(e), archive_entry_uid(e),
              archive_entry_mode(e) & 07777, &data);
        buf_fini(&data);
    }
    if (rc != ARCHIVE_EOF && buf_printf(out, "error: %s\n", archive_error_string(a))) {
        exit(1);
    }
    archive_read_free(a);
}

int main(int argc, char **argv)
{
    enum { SEED_MAX = 32768, SEEDS = 3 };
    static uint8_t seeds[SEEDS][SEED_MAX], mutant[SEED_MAX];
    size_t lens[SEEDS];
    uint64_t mutants = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000;
    uint64_t rng = argc > 2 ? strtoull(argv[2], NULL, 10) : 88172645463325252ull;
    uint64_t accepted = 0, different = 0, unknown = 0;
    for (int i = 0; i < SEEDS; i++) {
        lens[i] = make_seed(i, seeds[i], SEED_MAX);
    }
    for (uint64_t i = 0; i < mutants + SEEDS; i++) {
        struct buf ours = {0}, bytewise = {0}, theirs = {0};
        int s = (int)(i % SEEDS);
        memcpy(mutant, seeds[s], lens[s]);
        if (i >= SEEDS) { /* the first are the seeds themselves */
            mutate(mutant, lens[s], &rng);
        }
        int rc = list_ours(mutant, lens[s], SEED_MAX, &ours);
        int rc2 = list_ours(mutant, lens[s], 1 + rng_next(&rng) % 600, &bytewise);
        bool same = rc == rc2 && ours.len == bytewise.len &&
                    (!ours.len || memcmp(ours.data, bytewise.data, ours.len) == 0);
        if (rc == 0) {
            accepted++;
            list_theirs(mutant, lens[s], &theirs);
            /* Its format sniffer wants the first header just so; that is no other reading of it. */
            bool sniffed = !theirs.len || strncmp((char *)theirs.data, "error: Unrec", 12) != 0;
            unknown += !sniffed;
            same = same &&
                   (!sniffed || (ours.len == theirs.len &&
                                 (!ours.len || memcmp(ours.data, theirs.data, ours.len) == 0)));
        }
        if (!same || (rc && i < SEEDS)) {
            different++;
            printf("mutant %" PRIu64 " (rc %d, in pieces %d):\nours:\n%.*s\ntheirs:\n%.*s\n", i, rc,
                   rc2, (int)ours.len, (char *)ours.data, (int)theirs.len, (char *)theirs.data);
            char name[64];
            snprintf(name, sizeof name, "mutant-%" PRIu64 ".tar", i);
            FILE *f = different < 20 ? fopen(name, "wb") : NULL;
            if (f) {
                fwrite(mutant, 1, lens[s], f);
                fclose(f);
            }
        }
        buf_fini(&ours);
        buf_fini(&bytewise);
        buf_fini(&theirs);
    }
    printf("%" PRIu64 " mutants, %" PRIu64 " accepted, %" PRIu64
           " of them not sniffed as tar, %" PRIu64 " different\n",
           mutants, accepted, unknown, different);
    return different || accepted < mutants / 20 || unknown * 10 > accepted ? 1 : 0;
}
