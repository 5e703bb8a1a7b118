/* SPDX-License-Identifier: Apache-2.0 */
/* CONNECT against guests that are not what they should be. The honest guest: guest/relay_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/codec.h"
#include "agent/connect.h"

/* What connect_port makes of a guest that says this and, maybe, closes. */
static int ask(const uint8_t *said, size_t len, bool closes, int *fd, struct sm_error *err)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(write(fds[1], said, len), len);
    if (closes)
        shutdown(fds[1], SHUT_WR);
    int rc = connect_port(fds[0], 80, 100, err);
    if (fd)
        *fd = fds[0];
    else
        close(fds[0]);
    close(fds[1]);
    return rc;
}

static void test_bytes_after_the_answer(void **state)
{
    uint8_t said[64];
    char rest[8] = "";
    struct sm_error err;
    int fd;
    size_t len = codec_hello_build(said);
    len += codec_empty_build(said + len, PROTO_OK, 0);
    memcpy(said + len, "first", 5);
    assert_int_equal(ask(said, len + 5, true, &fd, &err), 0);
    assert_int_equal(read(fd, rest, sizeof rest), 5);
    assert_string_equal(rest, "first");
    close(fd);
}

static void test_refused(void **state)
{
    uint8_t said[64 + CODEC_ERROR];
    struct sm_error err;
    size_t hello = codec_hello_build(said);
    size_t len = codec_error_build(said + hello, PROTO_ERR_CONNECT, 111, "no\none");
    assert_int_equal(ask(said, hello + len, false, NULL, &err), SM_ENOTFOUND);
    assert_string_equal(err.text, "no?one");
    len = codec_error_build(said + hello, PROTO_ERR_RESOURCE, 12, "full");
    assert_int_equal(ask(said, hello + len, false, NULL, &err), SM_EGUEST);
    len = codec_error_build(said + hello, PROTO_ERR_END, 0, "");
    assert_int_equal(ask(said, hello + len, false, NULL, &err), SM_EGUEST);
}

static void test_cut_off_anywhere(void **state)
{
    uint8_t said[64];
    struct sm_error err;
    size_t len = codec_hello_build(said);
    len += codec_empty_build(said + len, PROTO_OK, 0);
    for (size_t cut = 0; cut < len; cut++)
        assert_int_equal(ask(said, cut, true, NULL, &err), SM_EGUEST);
    assert_int_equal(ask(said, len - 1, false, NULL, &err), SM_ETIMEDOUT);
}

static void test_nonsense(void **state)
{
    uint8_t said[64];
    struct sm_error err;
    size_t hello = codec_hello_build(said), len;
    len = codec_u32_build(said + hello, PROTO_STARTED, 0, 1);
    assert_int_equal(ask(said, hello + len, false, NULL, &err), SM_EGUEST);
    codec_header_build(said + hello, PROTO_DATA, 1, 0,
                       PROTO_PAYLOAD_MAX); /* longer than any answer */
    assert_int_equal(ask(said, hello + 8, false, NULL, &err), SM_EGUEST);
    memset(said + hello, 0xff, 8);
    assert_int_equal(ask(said, hello + 8, false, NULL, &err), SM_EGUEST);
    assert_non_null(strstr(err.text, "bad frame"));
    len = codec_empty_build(said, PROTO_OK, 0); /* without a hello */
    assert_int_equal(ask(said, len, false, NULL, &err), SM_EGUEST);
    codec_hello_build(said);
    said[12] ^= 1;
    assert_int_equal(ask(said, hello, false, NULL, &err), SM_EGUEST);
    assert_non_null(strstr(err.text, "version"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_after_the_answer),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_cut_off_anywhere),
        cmocka_unit_test(test_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
