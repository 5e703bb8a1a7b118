/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image may hold anything under these names, symbolic links and fifos among them: what is no
 * regular file is replaced, so that PID 1 neither blocks on it nor writes elsewhere.
 */
#include "etc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/proto.h"
#include "klog.h"

int etc_write_file(const char *path, const char *text, size_t len)
{
    struct stat st;
    int fd, status, saved;

    if (lstat(path, &st) == 0 && !S_ISREG(st.st_mode) && unlink(path) < 0)
        return -1;
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644);
    if (fd < 0)
        return -1;
    status = write(fd, text, len) == (ssize_t)len ? 0 : -1;
    saved = errno;
    close(fd);
    errno = saved;
    return status;
}

int etc_set_hostname(const char *name, size_t len)
{
    char line[PROTO_HOSTNAME_MAX + 2];
    int n = snprintf(line, sizeof line, "%.*s\n", (int)len, name);

    if (sethostname(name, len) < 0)
        return -1;
    if (etc_write_file("/etc/hostname", line, (size_t)n) < 0)
        klog_info("/etc/hostname not written: %s", strerror(errno));
    return 0;
}

int etc_write_hosts(const char *extra, size_t len)
{
    char text[PROTO_PAYLOAD_MAX + 512], name[PROTO_HOSTNAME_MAX + 1] = "";
    int n;

    gethostname(name, sizeof name - 1);
    n = snprintf(text, sizeof text,
                 "127.0.0.1\tlocalhost\n"
                 "::1\tlocalhost ip6-localhost ip6-loopback\n"
                 "fe00::\tip6-localnet\n"
                 "ff00::\tip6-mcastprefix\n"
                 "ff02::1\tip6-allnodes\n"
                 "ff02::2\tip6-allrouters\n"
                 "127.0.1.1\t%s\n%.*s",
                 name, (int)len, extra ? extra : "");
    return etc_write_file("/etc/hosts", text, (size_t)n);
}

int etc_set_machine_id(const char *id, size_t len, bool *ours)
{
    char line[PROTO_MACHINE_ID_LEN + 1];
    struct stat st;

    if (!*ours && lstat("/etc/machine-id", &st) == 0 && (!S_ISREG(st.st_mode) || st.st_size > 0))
        return 0;
    memcpy(line, id, len);
    line[len] = '\n';
    *ours = etc_write_file("/etc/machine-id", line, len + 1) == 0;
    return *ours ? 0 : -1;
}

void etc_init(const char *hostname)
{
    struct stat st;

    if (mkdir("/etc", 0755) < 0 && errno != EEXIST)
        klog_info("no /etc: %s", strerror(errno));
    if (etc_set_hostname(hostname, strlen(hostname)) < 0)
        klog_error("cannot set the host name: %s", strerror(errno));
    if (etc_write_hosts(NULL, 0) < 0)
        klog_info("/etc/hosts not written: %s", strerror(errno));
    /* Without a network there is nothing to put into it, but programs expect it to exist. */
    if (stat("/etc/resolv.conf", &st) < 0 && etc_write_file("/etc/resolv.conf", "", 0) < 0)
        klog_info("/etc/resolv.conf not written: %s", strerror(errno));
}
