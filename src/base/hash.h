/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 and OCI digest strings ("sha256:" + 64 lower-case hex digits; OCI image-spec,
 * descriptor.md). */
#ifndef SM_BASE_HASH_H
#define SM_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HASH_RAW_SIZE 32
#define HASH_HEX_LEN 64
#define DIGEST_STR_SIZE (sizeof "sha256:" + HASH_HEX_LEN) /* with the final NUL */

struct hash; /* a running SHA-256 */

struct hash *hash_new(void); /* NULL when out of memory */
void hash_free(struct hash *h);
void hash_update(struct hash *h, const void *data, size_t len);
/* Writes "sha256:<hex>" and ends the hash. */
void hash_final(struct hash *h, char out[DIGEST_STR_SIZE]);
/* The same as bytes. */
void hash_final_raw(struct hash *h, uint8_t out[HASH_RAW_SIZE]);

/* Digest of one block of memory. */
void hash_bytes(const void *data, size_t len, char out[DIGEST_STR_SIZE]);
void hash_bytes_raw(const void *data, size_t len, uint8_t out[HASH_RAW_SIZE]);

/*
 * Digest of a file's first max bytes, or of all of it when it is shorter. Its position stays. tick
 * (may be NULL) is called per block. Returns the bytes that were hashed, or -1 with errno.
 */
int64_t hash_file(int fd, uint64_t max, void (*tick)(void *opaque), void *opaque,
                  char out[DIGEST_STR_SIZE]);

/* True only for a well-formed sha256 digest string, safe to use in a path after its "sha256:". */
bool digest_valid(const char *s);
/* True only for the 64 digits of one, without its "sha256:". */
bool digest_hex_valid(const char *s);
/* The digest that a file called <64 hex digits><suffix> is named by; false, and out is not to be
 * used, for every other name. */
bool digest_of_file_name(const char *name, const char *suffix, char out[DIGEST_STR_SIZE]);

#endif
