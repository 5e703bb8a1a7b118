/* SPDX-License-Identifier: Apache-2.0 */
/* The public call: input that comes in drops or fails, output that fails, no error object, two at
 * once. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <cmocka.h>

#include "image/layer.h"

struct input {
    const uint8_t *data;
    size_t len, at, step;
    size_t fail_at; /* 0 = never */
    unsigned interrupts;
};

static ssize_t input_read(void *opaque, void *buf, size_t len)
{
    struct input *in = opaque;
    if (in->fail_at && in->at >= in->fail_at) {
        errno = ENXIO;
        return -1;
    }
    if (in->at % 3 == 1 && in->interrupts++ < 50) {
        errno = EINTR;
        return -1;
    }
    size_t n = in->len - in->at < in->step ? in->len - in->at : in->step;
    n = n < len ? n : len;
    memcpy(buf, in->data + in->at, n);
    in->at += n;
    return (ssize_t)n;
}

/* One file of len bytes in a plain tar; returns the archive's length. */
static size_t make_tar(uint8_t *out, size_t len)
{
    unsigned sum = 8 * ' ';
    memset(out, 0, 512);
    strcpy((char *)out, "file");
    snprintf((char *)out + 100, 8, "%07o", 0644);
    snprintf((char *)out + 124, 12, "%011zo", len);
    out[156] = '0';
    memcpy(out + 257,
           "ustar\0"
           "00",
           8);
    for (int i = 0; i < 512; i++) {
        sum += out[i];
    }
    snprintf((char *)out + 148, 8, "%06o", sum);
    out[155] = ' ';
    for (size_t i = 0; i < len; i++) {
        out[512 + i] = (uint8_t)(i * 7 + i / 256);
    }
    size_t end = 512 + (len + 511) / 512 * 512;
    memset(out + 512 + len, 0, end - 512 - len + 1024);
    return end + 1024;
}

static size_t make_gzip(const uint8_t *data, size_t len, uint8_t *out, size_t cap)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)(uintptr_t)data;
    z.avail_in = (unsigned)len;
    z.next_out = out;
    z.avail_out = (unsigned)cap;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return cap - z.avail_out;
}

struct sample {
    uint8_t tar[20000], gz[20000];
    size_t tar_len, gz_len;
    char diff_id[DIGEST_STR_SIZE];
};

static void make_sample(struct sample *s)
{
    s->tar_len = make_tar(s->tar, 9000);
    s->gz_len = make_gzip(s->tar, s->tar_len, s->gz, sizeof s->gz);
    hash_bytes(s->tar, s->tar_len, s->diff_id);
}

static int convert(struct input in, enum layer_codec codec, int fd, char *diff_id,
                   struct sm_error *err)
{
    struct layer_input src = {input_read, &in};
    char own[DIGEST_STR_SIZE];
    return layer_to_erofs(&src, codec, fd, NULL, diff_id ? diff_id : own, err);
}

static void test_input_in_drops(void **state)
{
    struct sample s;
    uint8_t first[32768], image[32768];
    ssize_t first_len = 0;
    make_sample(&s);
    static const size_t steps[] = {1, 13, 4096, 1 << 20};
    for (size_t i = 0; i < 8; i++) {
        enum layer_codec codec = i % 2 ? LAYER_TAR_GZIP : LAYER_TAR;
        struct input in = {
            i % 2 ? s.gz : s.tar, i % 2 ? s.gz_len : s.tar_len, 0, steps[i / 2], 0, 0};
        char diff_id[DIGEST_STR_SIZE];
        int fd = memfd_create("image", 0);
        assert_int_equal(pwrite(fd, "old contents", 12, 100000), 12); /* dropped */
        assert_int_equal(convert(in, codec, fd, diff_id, NULL), 0);
        assert_string_equal(diff_id, s.diff_id);
        ssize_t n = pread(fd, i ? image : first, sizeof image, 0);
        if (i == 0) {
            first_len = n;
            assert_true(n > 0 && n % 4096 == 0 && n < (ssize_t)sizeof image);
        }
        assert_int_equal(n, first_len);
        assert_memory_equal(i ? image : first, first, (size_t)n);
        close(fd);
    }
    /* The file's bytes are in the image as they are, from a block on. */
    assert_memory_equal(first + 4096, s.tar + 512, 9000);
}

static void test_failures(void **state)
{
    struct sample s;
    struct sm_error err;
    make_sample(&s);
    int fd = memfd_create("image", 0);
    for (size_t at = 1; at < s.gz_len; at += 7) {
        struct input failing = {s.gz, s.gz_len, 0, 16, at, 0};
        assert_int_equal(convert(failing, LAYER_TAR_GZIP, fd, NULL, &err), SM_EIO);
        assert_int_equal(err.os_errno, ENXIO);
        struct input cut = {s.gz, at, 0, 100, 0, 0};
        assert_int_equal(convert(cut, LAYER_TAR_GZIP, fd, NULL, &err), SM_ECORRUPT);
        assert_int_equal(convert(cut, LAYER_TAR_GZIP, fd, NULL, NULL), SM_ECORRUPT);
        cut.data = s.tar;
        assert_int_equal(convert(cut, LAYER_TAR, fd, NULL, &err), SM_ECORRUPT);
    }
    struct input good = {s.gz, s.gz_len, 0, 1000, 0, 0};
    assert_int_equal(convert(good, LAYER_TAR_GZIP, -1, NULL, &err), SM_EIO);
    int full = open("/dev/full", O_RDWR);
    assert_int_not_equal(convert(good, LAYER_TAR_GZIP, full, NULL, &err), 0);
    close(full);
    close(fd);
}

static void test_wrong_trailer(void **state)
{
    struct sample s;
    struct sm_error err;
    make_sample(&s);
    int fd = memfd_create("image", 0);
    for (size_t i = 1; i <= 8; i++) { /* CRC and length */
        s.gz[s.gz_len - i] ^= 0x10;
        struct input in = {s.gz, s.gz_len, 0, 1 << 20, 0, 0};
        assert_int_equal(convert(in, LAYER_TAR_GZIP, fd, NULL, &err), SM_ECORRUPT);
        s.gz[s.gz_len - i] ^= 0x10;
    }
    s.gz[s.gz_len] = 0;
    struct input longer = {s.gz, s.gz_len + 1, 0, 1 << 20, 0, 0};
    assert_int_equal(convert(longer, LAYER_TAR_GZIP, fd, NULL, &err), SM_ECORRUPT);
    close(fd);
}

static void *convert_often(void *arg)
{
    struct sample *s = arg;
    for (int i = 0; i < 50; i++) {
        struct input in = {s->gz, s->gz_len, 0, 100, 0, 0};
        char diff_id[DIGEST_STR_SIZE];
        int fd = memfd_create("image", 0);
        if (convert(in, LAYER_TAR_GZIP, fd, diff_id, NULL) || strcmp(diff_id, s->diff_id) != 0) {
            close(fd);
            return arg;
        }
        close(fd);
    }
    return NULL;
}

static void test_two_threads(void **state)
{
    struct sample s;
    pthread_t threads[2];
    void *bad;
    make_sample(&s);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, convert_often, &s), 0);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], &bad), 0);
        assert_null(bad);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_input_in_drops),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_wrong_trailer),
        cmocka_unit_test(test_two_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
