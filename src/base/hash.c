/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA-256 by the low-level calls, which OpenSSL 3 calls deprecated: they need no provider and no
 * configuration file, so they cost a starting VM nothing, and work in its jail.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "base/hash.h"

#include <errno.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK (256u << 10)

struct hash {
    SHA256_CTX ctx;
};

struct hash *hash_new(void)
{
    struct hash *h = malloc(sizeof *h);
    if (h) {
        SHA256_Init(&h->ctx);
    }
    return h;
}

void hash_free(struct hash *h)
{
    free(h);
}

void hash_update(struct hash *h, const void *data, size_t len)
{
    SHA256_Update(&h->ctx, data, len);
}

static void format_digest(const unsigned char md[32], char out[DIGEST_STR_SIZE])
{
    memcpy(out, "sha256:", 7);
    for (int i = 0; i < 32; i++) {
        snprintf(out + 7 + 2 * i, 3, "%02x", md[i]);
    }
}

void hash_final(struct hash *h, char out[DIGEST_STR_SIZE])
{
    unsigned char md[HASH_RAW_SIZE];
    SHA256_Final(md, &h->ctx);
    format_digest(md, out);
}

void hash_final_raw(struct hash *h, uint8_t out[HASH_RAW_SIZE])
{
    SHA256_Final(out, &h->ctx);
}

/* Not by SHA256(), which takes the long way through a provider. */
void hash_bytes_raw(const void *data, size_t len, uint8_t out[HASH_RAW_SIZE])
{
    SHA256_CTX ctx;
    SHA256_Init(&ctx);
    SHA256_Update(&ctx, data, len);
    SHA256_Final(out, &ctx);
}

void hash_bytes(const void *data, size_t len, char out[DIGEST_STR_SIZE])
{
    unsigned char md[HASH_RAW_SIZE];
    hash_bytes_raw(data, len, md);
    format_digest(md, out);
}

int64_t hash_file(int fd, uint64_t max, void (*tick)(void *opaque), void *opaque,
                  char out[DIGEST_STR_SIZE])
{
    struct hash *h = hash_new();
    uint8_t *block = malloc(BLOCK);
    uint64_t at = 0;
    ssize_t n = h && block ? 1 : -1;
    if (n < 0) {
        errno = ENOMEM;
    }
    while (n > 0 && at < max) {
        n = pread(fd, block, max - at < BLOCK ? (size_t)(max - at) : BLOCK, (off_t)at);
        if (n > 0) {
            hash_update(h, block, (size_t)n);
            at += (uint64_t)n;
            if (tick) {
                tick(opaque);
            }
        } else if (n < 0 && errno == EINTR) {
            n = 1;
        }
    }
    int why = errno;
    if (n >= 0) {
        hash_final(h, out);
    }
    hash_free(h);
    free(block);
    errno = why;
    return n < 0 ? -1 : (int64_t)at;
}

bool digest_hex_valid(const char *s)
{
    return strspn(s, "0123456789abcdef") == HASH_HEX_LEN && s[HASH_HEX_LEN] == '\0';
}

bool digest_valid(const char *s)
{
    return strncmp(s, "sha256:", 7) == 0 && digest_hex_valid(s + 7);
}

bool digest_of_file_name(const char *name, const char *suffix, char out[DIGEST_STR_SIZE])
{
    if (strlen(name) != HASH_HEX_LEN + strlen(suffix) || strcmp(name + HASH_HEX_LEN, suffix) != 0) {
        return false;
    }
    memcpy(out, "sha256:", 7);
    memcpy(out + 7, name, HASH_HEX_LEN);
    out[7 + HASH_HEX_LEN] = '\0';
    return digest_hex_valid(out + 7);
}
