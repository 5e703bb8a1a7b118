/* SPDX-License-Identifier: Apache-2.0 */
#include "image/seal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/io.h"

#define FORMAT "supermachine layer 1\n%s\n%" PRIu64 "\n"

/* Digest of the first len bytes. */
static int hash_first(int fd, uint64_t len, void (*tick)(void *opaque), void *opaque,
                      char digest[DIGEST_STR_SIZE], struct sm_error *err)
{
    int64_t n = hash_file(fd, len, tick, opaque, digest);
    if (n < 0) {
        return err_sys(err, "cannot read the layer image");
    }
    return (uint64_t)n == len ? SM_OK : err_set(err, SM_ECORRUPT, "the file is cut short");
}

int seal_put(int fd, void (*tick)(void *opaque), void *opaque, struct sm_error *err)
{
    char digest[DIGEST_STR_SIZE], seal[SEAL_BYTES] = {0};
    struct stat st;
    if (fstat(fd, &st)) {
        return err_sys(err, "cannot look at the layer image");
    }
    uint64_t len = (uint64_t)st.st_size;
    int rc = hash_first(fd, len, tick, opaque, digest, err);
    if (rc) {
        return rc;
    }
    snprintf(seal, sizeof seal, FORMAT, digest, len);
    return io_pwrite_full(fd, seal, sizeof seal, len) ? err_sys(err, "cannot write the layer image")
                                                      : SM_OK;
}

int seal_check(int fd, struct sm_error *err)
{
    char seal[SEAL_BYTES], expected[SEAL_BYTES] = {0}, digest[DIGEST_STR_SIZE];
    struct stat st;
    if (fstat(fd, &st)) {
        return err_sys(err, "cannot look at the file");
    }
    if (st.st_size < SEAL_BYTES) {
        return err_set(err, SM_ECORRUPT, "it has no checksum");
    }
    uint64_t len = (uint64_t)st.st_size - SEAL_BYTES;
    ssize_t n = pread(fd, seal, sizeof seal, (off_t)len);
    if (n < 0) {
        return err_sys(err, "cannot read the file");
    }
    if (n != SEAL_BYTES || memcmp(seal, FORMAT, strcspn(FORMAT, "%")) != 0) {
        return err_set(err, SM_ECORRUPT,
                       "it has no checksum: it is damaged, or an older supermachine made it");
    }
    int rc = hash_first(fd, len, NULL, NULL, digest, err);
    if (rc) {
        return rc;
    }
    snprintf(expected, sizeof expected, FORMAT, digest, len);
    return memcmp(seal, expected, sizeof seal) == 0
               ? SM_OK
               : err_set(err, SM_ECORRUPT, "it does not match its checksum: its content is %s",
                         digest);
}
