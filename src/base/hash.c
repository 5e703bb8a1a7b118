/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK (256u << 10)

struct hash {
    EVP_MD_CTX *ctx; /* owned */
};

struct hash *hash_new(void)
{
    struct hash *h = calloc(1, sizeof *h);
    if (!h) {
        return NULL;
    }
    h->ctx = EVP_MD_CTX_new();
    if (!h->ctx || EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1) {
        hash_free(h);
        return NULL;
    }
    return h;
}

void hash_free(struct hash *h)
{
    if (h) {
        EVP_MD_CTX_free(h->ctx);
        free(h);
    }
}

void hash_update(struct hash *h, const void *data, size_t len)
{
    EVP_DigestUpdate(h->ctx, data, len);
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
    unsigned char md[EVP_MAX_MD_SIZE];
    EVP_DigestFinal_ex(h->ctx, md, NULL);
    format_digest(md, out);
}

void hash_final_raw(struct hash *h, uint8_t out[HASH_RAW_SIZE])
{
    EVP_DigestFinal_ex(h->ctx, out, NULL);
}

void hash_bytes(const void *data, size_t len, char out[DIGEST_STR_SIZE])
{
    unsigned char md[EVP_MAX_MD_SIZE];
    EVP_Digest(data, len, md, NULL, EVP_sha256(), NULL);
    format_digest(md, out);
}

void hash_bytes_raw(const void *data, size_t len, uint8_t out[HASH_RAW_SIZE])
{
    EVP_Digest(data, len, out, NULL, EVP_sha256(), NULL);
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
