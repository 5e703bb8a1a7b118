// SPDX-License-Identifier: Apache-2.0
#include "worker/control.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEADER offsetof(struct control_msg, text)

void control_set_error(struct control_msg *m, int code, const struct sm_error *err)
{
    m->code = code;
    m->os_errno = err->os_errno;
    m->len = (uint32_t)strnlen(err->text, CONTROL_TEXT - 1);
    memcpy(m->text, err->text, m->len);
}

int control_get_error(const struct control_msg *m, struct sm_error *err)
{
    int code = m->code >= SM_ENOSPC && m->code < 0 ? m->code : SM_EGUEST;
    char text[CONTROL_TEXT];
    uint32_t len = m->len < sizeof text ? m->len : (uint32_t)sizeof text - 1;
    for (uint32_t i = 0; i < len; i++)
        text[i] = m->text[i] < 0x20 || m->text[i] == 0x7f ? '?' : m->text[i];
    text[len] = 0;
    err_set(err, code, "%s", len ? text : "the VM's process gave no reason");
    if (err)
        err->os_errno = m->os_errno;
    return code;
}

int control_send(int fd, const struct control_msg *m, int passed_fd)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = (void *)m, .iov_len = HEADER + m->len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (passed_fd >= 0) {
        msg.msg_control = control.room;
        msg.msg_controllen = sizeof control.room;
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &passed_fd, sizeof passed_fd);
    }
    ssize_t n;
    do
        n = sendmsg(fd, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -1 : 0;
}

static int passed_descriptor(struct msghdr *msg)
{
    int fd = -1;
    struct cmsghdr *c = CMSG_FIRSTHDR(msg);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len == CMSG_LEN(sizeof fd))
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

int control_receive(int fd, struct control_msg *m, int *passed_fd)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))]; /* the kernel closes what does not fit */
    } control;
    struct iovec iov = {.iov_base = m, .iov_len = sizeof *m};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.room,
                         .msg_controllen = sizeof control.room};
    ssize_t n;
    *passed_fd = -1;
    do
        n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return (int)n;
    *passed_fd = passed_descriptor(&msg);
    if ((size_t)n >= HEADER && !(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) &&
        m->len == (size_t)n - HEADER)
        return 1;
    if (*passed_fd >= 0)
        close(*passed_fd);
    *passed_fd = -1;
    errno = EPROTO;
    return -1;
}
