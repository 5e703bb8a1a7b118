// SPDX-License-Identifier: Apache-2.0
#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAGIC 0x31434d53u /* SMC1: with another version the layout may be another */

struct head {
    uint32_t magic, type;
    int32_t a, b;
};

union fds_room {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(WIRE_MAX_FDS * sizeof(int))];
};

int wire_add(struct wire *w, const char *string)
{
    size_t len = strlen(string) + 1;
    if (len > WIRE_MAX_TEXT - w->len)
        return E2BIG;
    char *text = realloc(w->text, w->len + len);
    if (!text)
        return ENOMEM;
    memcpy(text + w->len, string, len);
    w->text = text;
    w->len += len;
    return 0;
}

const char *wire_next(const struct wire *w, size_t *at)
{
    if (*at >= w->len)
        return NULL;
    const char *string = w->text + *at;
    *at += strlen(string) + 1; /* wire_receive saw the last NUL */
    return string;
}

int wire_send(int fd, const struct wire *w)
{
    struct head head = {MAGIC, w->type, w->a, w->b};
    struct iovec parts[2] = {{&head, sizeof head}, {w->text, w->len}};
    struct msghdr msg = {.msg_iov = parts, .msg_iovlen = 2};
    union fds_room room = {0};
    if (w->n_fds) {
        size_t bytes = w->n_fds * sizeof(int);
        msg.msg_control = room.bytes;
        msg.msg_controllen = CMSG_SPACE(bytes);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        *c = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(bytes)};
        memcpy(CMSG_DATA(c), w->fds, bytes);
    }
    ssize_t n;
    do {
        n = sendmsg(fd, &msg, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n == (ssize_t)(sizeof head + w->len) ? 0 : n < 0 ? errno : EPROTO;
}

static void take_fds(struct wire *w, struct msghdr *msg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        unsigned n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (unsigned i = 0; i < n && w->n_fds < WIRE_MAX_FDS; i++)
            memcpy(&w->fds[w->n_fds++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
    }
}

int wire_receive(int fd, struct wire *w)
{
    struct head head;
    union fds_room room;
    *w = (struct wire){.text = malloc(WIRE_MAX_TEXT)};
    struct iovec parts[2] = {{&head, sizeof head}, {w->text, WIRE_MAX_TEXT}};
    struct msghdr msg = {.msg_iov = parts,
                         .msg_iovlen = 2,
                         .msg_control = room.bytes,
                         .msg_controllen = sizeof room.bytes};
    ssize_t n;
    if (!w->text)
        return ENOMEM;
    do {
        n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n <= 0)
        return n < 0 ? errno : EPIPE;
    take_fds(w, &msg);
    if (n < (ssize_t)sizeof head || head.magic != MAGIC ||
        (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
        return EPROTO;
    w->type = head.type;
    w->a = head.a;
    w->b = head.b;
    w->len = (size_t)n - sizeof head;
    return w->len && w->text[w->len - 1] ? EPROTO : 0;
}

void wire_answer(int fd, int32_t code, int32_t more, const char *text)
{
    struct wire w = {.type = WIRE_DONE, .a = code, .b = more};
    if (wire_add(&w, text) == 0)
        wire_send(fd, &w);
    wire_fini(&w);
}

void wire_fini(struct wire *w)
{
    free(w->text);
    w->text = NULL;
    while (w->n_fds)
        close(w->fds[--w->n_fds]);
}
