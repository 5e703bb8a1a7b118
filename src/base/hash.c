/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

bool digest_valid(const char *s)
{
    if (strncmp(s, "sha256:", 7) != 0 || strlen(s) != 7 + HASH_HEX_LEN) {
        return false;
    }
    return strspn(s + 7, "0123456789abcdef") == HASH_HEX_LEN;
}
