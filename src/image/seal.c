/* SPDX-License-Identifier: Apache-2.0 */
#include "image/seal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/io.h"

#define BLOCK (256u << 10)
#define FORMAT "supermachine layer 1\n%s\n%" PRIu64 "\n"

/* Digest of the first len bytes. */
static int hash_file(int fd, uint64_t len, void (*tick)(void *opaque), void *opaque,
                     char digest[DIGEST_STR_SIZE], struct sm_error *err)
{
    struct hash *h = hash_new();
    uint8_t *block = malloc(BLOCK);
    int rc = h && block ? SM_OK : err_set(err, SM_ENOMEM, "out of memory");
    for (uint64_t at = 0; !rc && at < len;) {
        size_t want = len - at < BLOCK ? (size_t)(len - at) : BLOCK;
        ssize_t n = pread(fd, block, want, (off_t)at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            rc = err_sys(err, "cannot read the layer image");
        } else if (n == 0) {
            rc = err_set(err, SM_ECORRUPT, "the file is cut short");
        } else {
            hash_update(h, block, (size_t)n);
            at += (uint64_t)n;
            if (tick) {
                tick(opaque);
            }
        }
    }
    if (!rc) {
        hash_final(h, digest);
    }
    hash_free(h);
    free(block);
    return rc;
}

int seal_put(int fd, void (*tick)(void *opaque), void *opaque, struct sm_error *err)
{
    char digest[DIGEST_STR_SIZE], seal[SEAL_BYTES] = {0};
    struct stat st;
    if (fstat(fd, &st)) {
        return err_sys(err, "cannot look at the layer image");
    }
    uint64_t len = (uint64_t)st.st_size;
    int rc = hash_file(fd, len, tick, opaque, digest, err);
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
    int rc = hash_file(fd, len, NULL, NULL, digest, err);
    if (rc) {
        return rc;
    }
    snprintf(expected, sizeof expected, FORMAT, digest, len);
    return memcmp(seal, expected, sizeof seal) == 0
               ? SM_OK
               : err_set(err, SM_ECORRUPT, "it does not match its checksum: its content is %s",
                         digest);
}
