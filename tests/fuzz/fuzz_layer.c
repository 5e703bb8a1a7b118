/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layer blob -> EROFS image. First byte: codec (low 2 bits, 3 = tar again) and how the input is
 * cut; the rest is the blob. Beyond memory errors it checks that an accepted layer converts to the
 * same bytes again, however the input is cut.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "image/layer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

struct input {
    const uint8_t *data;
    size_t len;
    size_t piece;
};

static ssize_t input_read(void *opaque, void *buf, size_t len)
{
    struct input *in = opaque;
    size_t n = in->len < in->piece ? in->len : in->piece;
    n = n < len ? n : len;
    memcpy(buf, in->data, n);
    in->data += n;
    in->len -= n;
    return (ssize_t)n;
}

static int convert(struct input in, enum layer_codec codec, int fd, char diff_id[DIGEST_STR_SIZE])
{
    static const struct layer_limits limits = {
        .max_tar_bytes = 8 << 20,
        .max_image_bytes = 16 << 20,
        .max_file_bytes = 1ull << 32,
        .max_entries = 2000,
        .max_memory = 4 << 20,
        .max_ratio = 0,
    };
    struct layer_input src = {input_read, &in};
    struct sm_error err;
    int rc = layer_to_erofs(&src, codec, fd, &limits, diff_id, &err);
    if (rc && (rc != err.code || !err.text[0])) {
        abort();
    }
    return rc;
}

/* Most mutants get their header checksums repaired, or none would come past the first check. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    size = LLVMFuzzerMutate(data, size, max);
    for (size_t at = 1; seed % 8 && at + 512 <= size; at += 512) {
        uint8_t *h = data + at;
        unsigned sum = 8 * ' ';
        if (memcmp(h + 257, "ustar", 5) != 0) {
            continue;
        }
        for (int i = 0; i < 512; i++) {
            sum += i >= 148 && i < 156 ? 0 : h[i];
        }
        for (int i = 5; i >= 0; i--, sum /= 8) {
            h[148 + i] = (uint8_t)('0' + sum % 8);
        }
        h[154] = 0;
        h[155] = ' ';
    }
    return size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size) {
        return 0;
    }
    enum layer_codec codec = (enum layer_codec)((data[0] & 3) % 3);
    struct input in = {data + 1, size - 1, 1u + (data[0] >> 2) * 37u};
    char first[DIGEST_STR_SIZE], second[DIGEST_STR_SIZE];
    int a = memfd_create("layer", 0), b = memfd_create("layer", 0);
    if (convert(in, codec, a, first) == 0) {
        off_t len = lseek(a, 0, SEEK_END);
        in.piece = SIZE_MAX;
        if (convert(in, codec, b, second) || strcmp(first, second) != 0 ||
            lseek(b, 0, SEEK_END) != len || len % 4096) {
            abort();
        }
        void *x = mmap(NULL, (size_t)len, PROT_READ, MAP_SHARED, a, 0);
        void *y = mmap(NULL, (size_t)len, PROT_READ, MAP_SHARED, b, 0);
        if (x == MAP_FAILED || y == MAP_FAILED || memcmp(x, y, (size_t)len) != 0) {
            abort();
        }
        munmap(x, (size_t)len);
        munmap(y, (size_t)len);
    }
    close(a);
    close(b);
    return 0;
}
