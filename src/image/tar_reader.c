/* SPDX-License-Identifier: Apache-2.0 */
/* libarchive with only what we want of it: tar, four compressions, no helper programs. */
#include "image/tar_reader.h"

#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

#define BLOCK 65536
#define MAX_UNPACKED_BYTES (256ull << 30)

static la_ssize_t block_read(struct archive *a, void *opaque, const void **block)
{
    struct tar_reader *r = opaque;
    ssize_t n;
    do {
        n = pread(r->fd, r->block, BLOCK, r->position);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        archive_set_error(a, errno, "cannot read the file");
        return -1;
    }
    r->position += n;
    *block = r->block;
    return n;
}

static la_int64_t block_skip(struct archive *a, void *opaque, la_int64_t request)
{
    struct tar_reader *r = opaque;
    (void)a;
    off_t left = r->size - r->position;
    la_int64_t skip = request < left ? request : (left > 0 ? left : 0);
    r->position += skip;
    return skip;
}

int tar_reader_open(struct tar_reader *r, int fd, off_t offset, struct sm_error *err)
{
    struct stat st;
    *r = (struct tar_reader){.fd = fd, .position = offset};
    if (fstat(fd, &st)) {
        return err_sys(err, "cannot look at the archive");
    }
    r->size = st.st_size;
    r->block = malloc(BLOCK);
    r->archive = archive_read_new();
    if (!r->block || !r->archive) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    if (archive_read_support_format_tar(r->archive) != ARCHIVE_OK ||
        archive_read_open2(r->archive, r, NULL, block_read, block_skip, NULL) != ARCHIVE_OK) {
        return err_set(err, SM_ECORRUPT, "cannot read the archive: %s",
                       archive_error_string(r->archive));
    }
    return SM_OK;
}

void tar_reader_close(struct tar_reader *r)
{
    archive_read_free(r->archive);
    free(r->block);
    *r = (struct tar_reader){0};
}

static const struct {
    const char *bytes;
    size_t len;
} magics[] = {
    {"\x1f\x8b", 2},
    {"\x28\xb5\x2f\xfd", 4},
    {"\xfd"
     "7zXZ",
     5},
    {"BZh", 3},
};

int tar_is_compressed(int fd, const char *label, bool *out, struct sm_error *err)
{
    char head[8] = {0};
    ssize_t n = pread(fd, head, sizeof head, 0);
    if (n < 0) {
        return err_sys(err, "cannot read %s", label);
    }
    *out = false;
    for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++) {
        *out |= (size_t)n >= magics[i].len && memcmp(head, magics[i].bytes, magics[i].len) == 0;
    }
    return SM_OK;
}

static int copy_out(struct archive *a, const char *label, int out_fd, struct sm_error *err)
{
    uint64_t total = 0;
    char *block = malloc(BLOCK);
    int rc = block ? SM_OK : err_set(err, SM_ENOMEM, "out of memory");
    while (!rc) {
        ssize_t n = archive_read_data(a, block, BLOCK);
        if (n < 0) {
            rc = err_set(err, SM_ECORRUPT, "cannot unpack %s: %s", label, archive_error_string(a));
        } else if (n == 0) {
            break;
        } else if ((total += (uint64_t)n) > MAX_UNPACKED_BYTES) {
            rc = err_set(err, SM_EUNSUPPORTED, "%s unpacks to more than %llu GiB", label,
                         MAX_UNPACKED_BYTES >> 30);
        } else if (io_write_full(out_fd, block, (size_t)n)) {
            rc = err_sys(err, "cannot unpack %s into the store", label);
        }
    }
    free(block);
    return rc;
}

int tar_unpack(int in_fd, const char *label, int out_fd, struct sm_error *err)
{
    struct archive *a = archive_read_new();
    struct archive_entry *e;
    if (!a) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    archive_read_support_filter_gzip(a);
    archive_read_support_filter_bzip2(a);
    archive_read_support_filter_xz(a);
    archive_read_support_filter_zstd(a);
    archive_read_support_format_raw(a);
    int rc;
    if (archive_read_open_fd(a, in_fd, BLOCK) != ARCHIVE_OK ||
        archive_read_next_header(a, &e) != ARCHIVE_OK) {
        const char *why = archive_error_string(a);
        rc = err_set(err, SM_ECORRUPT, "cannot unpack %s: %s", label, why ? why : "it is empty");
    } else {
        rc = copy_out(a, label, out_fd, err);
    }
    archive_read_free(a);
    return rc;
}
