// SPDX-License-Identifier: Apache-2.0
/*
 * The agent protocol, both directions. The first byte chooses: frames from the host, frames from
 * the guest, EXEC, SETUP, or the whole client against a guest that says these bytes (with its
 * HELLO and STARTED before them, so that the fuzzer starts where it gets interesting).
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/client.h"
#include "agent/codec.h"
#include "agent/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk_volumes(const struct codec_item *item)
{
    const char *path;
    unsigned flags;
    size_t at = 0;

    while (codec_volume_next(item, &at, &path, &flags) == 1)
        if (path[0] != '/' || strlen(path) > PROTO_VOLUME_PATH_MAX || flags & ~PROTO_VOLUME_FLAGS)
            abort();
}

static void parse_payload(const struct codec_frame *f, enum codec_peer from)
{
    char text[PROTO_TEXT_MAX + 1];
    enum proto_error class;
    struct codec_item item;
    struct codec_exit x;
    uint16_t rows, cols;
    uint32_t a, b;
    size_t at = 0;

    switch (f->type) {
    case PROTO_HELLO:
        codec_hello_parse(f, &a);
        break;
    case PROTO_CREDIT:
        if (codec_credit_parse(f, &a) == 0 && (a == 0 || a > PROTO_WINDOW))
            abort();
        break;
    case PROTO_SIGNAL:
        if (codec_signal_parse(f, &a, &b) == 0 && (a < 1 || a > 64))
            abort();
        break;
    case PROTO_RESIZE:
        codec_resize_parse(f, &rows, &cols);
        break;
    case PROTO_EXIT:
        if (codec_exit_parse(f, &x) == 0 && (x.code > 255 || x.signal > 64))
            abort();
        break;
    case PROTO_ERROR:
        if (codec_error_parse(f, &class, &a, text) == 0 && strlen(text) > PROTO_TEXT_MAX)
            abort();
        break;
    case PROTO_SETUP:
        while (codec_item_next(f->payload, f->length, &at, &item) == 1)
            if (item.data + item.length > f->payload + f->length)
                abort();
            else if (item.key == PROTO_ITEM_VOLUMES)
                walk_volumes(&item);
        break;
    default:
        break;
    }
}

/* Pieces of changing size, as a socket would deliver them. */
static void fuzz_frames(const uint8_t *data, size_t size, enum codec_peer from)
{
    struct codec_reader *r = malloc(sizeof *r);
    size_t piece = 1;

    if (!r)
        return;
    codec_reader_init(r, from);
    for (size_t at = 0; at < size; piece = piece * 5 % 9973 + 1) {
        size_t room, n = size - at < piece ? size - at : piece;
        struct codec_frame f;
        uint8_t *p = codec_reader_space(r, &room);
        int more;

        if (room == 0)
            abort();
        n = n < room ? n : room;
        memcpy(p, data + at, n);
        codec_reader_added(r, n);
        at += n;
        while ((more = codec_reader_next(r, &f)) == 1) {
            if (f.length > PROTO_PAYLOAD_MAX || f.stream >= PROTO_STREAMS)
                abort();
            parse_payload(&f, from);
        }
        if (more < 0)
            break;
    }
    free(r);
}

/* What is accepted must come out the same when it is built again. */
static void fuzz_exec(const uint8_t *data, size_t size)
{
    char *blob = malloc(size ? size : 1);
    struct codec_exec x;
    uint8_t *again;
    size_t len;

    if (!blob)
        return;
    memcpy(blob, data, size);
    if (codec_exec_parse(blob, size, &x) == 0) {
        if (codec_exec_build(&x, &again, &len) != 0 || len != size || memcmp(again, data, size))
            abort();
        free(again);
        codec_exec_fini(&x);
    }
    free(blob);
}

static int discard(void *opaque, int stream, const void *data, size_t len)
{
    size_t *total = opaque;

    /* Without our credit it may say a window's worth of each stream, and we give credit back only.
     */
    *total += len;
    return stream == 1 || stream == 2 ? 0 : SM_EINVAL;
}

static void fuzz_client(const uint8_t *data, size_t size, bool started)
{
    const char *argv[] = {"x", NULL};
    struct client_spec spec = CLIENT_SPEC_INIT;
    struct client_result result;
    struct client *c;
    uint8_t head[CODEC_SMALL * 2];
    size_t total = 0, len;
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
        return;
    len = codec_hello_build(head);
    len += codec_u32_build(head + len, PROTO_STARTED, 0, 1);
    if ((!started || send(fds[1], head, len, MSG_DONTWAIT) >= 0) &&
        send(fds[1], data, size, MSG_DONTWAIT) >= 0 && shutdown(fds[1], SHUT_WR) == 0) {
        spec.argv = argv;
        spec.output = discard;
        spec.opaque = &total;
        if (client_new(&c, fds[0], &spec, NULL) == 0) {
            int status = client_run(c, 10000, &result, NULL);
            if (status == SM_ETIMEDOUT || total > size)
                abort();
            client_free(c);
        }
    }
    close(fds[0]);
    close(fds[1]);
}

static void fuzz_request(const uint8_t *data, size_t size)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
        return;
    if (send(fds[1], data, size, MSG_DONTWAIT) >= 0 && shutdown(fds[1], SHUT_WR) == 0 &&
        request_beacon(fds[0], 10000, NULL) == SM_ETIMEDOUT)
        abort();
    close(fds[0]);
    close(fds[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    switch (data[0] % 6) {
    case 0:
        fuzz_frames(data + 1, size - 1, CODEC_HOST);
        break;
    case 1:
        fuzz_frames(data + 1, size - 1, CODEC_GUEST);
        break;
    case 2:
        fuzz_exec(data + 1, size - 1);
        break;
    case 3:
        fuzz_client(data + 1, size - 1, true);
        break;
    case 4:
        fuzz_client(data + 1, size - 1, false);
        break;
    default:
        fuzz_request(data + 1, size - 1);
    }
    return 0;
}
