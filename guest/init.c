/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PID 1 of the guest: modules, root, then the server of server.h until the host says SHUTDOWN.
 *
 * Kernel command line: sm.layers=N (virtio-pmem devices that are image layers; default 0),
 * sm.hostname=NAME, sm.selftest=1 (print what was mounted, and power off).
 *
 * It shares its PID namespace with the image's processes, as Docker's --init does: what is sent to
 * PID 1 goes to the command (server.c), and SIGKILL does nothing, as the kernel shields PID 1. (A
 * namespace of its own for the command would make it deaf to Ctrl-C, `reboot -f` a mere signal, and
 * each exec an intruder.) `reboot -f` and a kernel panic end the machine; that is for the host to
 * notice. When the guest cannot start, the beacon says why, and
 * the machine is turned off.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/codec.h"
#include "etc.h"
#include "klog.h"
#include "modules.h"
#include "rootfs.h"
#include "selftest.h"
#include "server.h"
#include "volumes.h"
#include "vsock_addr.h"

#define BEACON_TRIES 3

struct boot {
    unsigned layers;
    bool selftest;
    char hostname[PROTO_HOSTNAME_MAX + 1];
};

static void parse_cmdline(struct boot *b)
{
    char line[4096];
    int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, line, sizeof line - 1);

    if (fd >= 0)
        close(fd);
    line[n > 0 ? n : 0] = 0;
    strcpy(b->hostname, "supermachine");
    for (char *save, *w = strtok_r(line, " \n", &save); w; w = strtok_r(NULL, " \n", &save)) {
        if (strncmp(w, "sm.layers=", 10) == 0)
            b->layers = (unsigned)strtoul(w + 10, NULL, 10);
        else if (strncmp(w, "sm.hostname=", 12) == 0 && w[12] &&
                 strlen(w + 12) < sizeof b->hostname)
            strcpy(b->hostname, w + 12);
        else if (strcmp(w, "sm.selftest=1") == 0)
            b->selftest = true;
    }
}

/* 0, 1 and 2 must exist, or a pipe of a session would take their place. */
static void ensure_stdio(void)
{
    int fd;

    do
        fd = open("/dev/console", O_RDWR | O_NOCTTY);
    while (fd >= 0 && fd < 3);
    if (fd >= 0) {
        close(fd);
        return;
    }
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd < 3);
    if (fd >= 0)
        close(fd);
}

/* Linux tells the host of free blocks of 2 MiB and more, and only while a zone has 64 MiB of them.
 * Of 128 KiB it has many more, and needs 4 MiB. The kernel's command line cannot say so: the driver
 * sets it anew. */
static void report_small_blocks(void)
{
    int fd =
        open("/sys/module/page_reporting/parameters/page_reporting_order", O_WRONLY | O_CLOEXEC);

    if (fd >= 0 && write(fd, "5", 1) < 0)
        klog_info("free memory is reported in large blocks only: %s", strerror(errno));
    if (fd >= 0)
        close(fd);
}

static void loopback_up(void)
{
    struct ifreq r = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &r) < 0 ||
        (r.ifr_flags |= IFF_UP, ioctl(fd, SIOCSIFFLAGS, &r) < 0))
        klog_error("cannot bring lo up: %s", strerror(errno));
    if (fd >= 0)
        close(fd);
}

static int listen_vsock(void)
{
    struct vsock_addr a = {.family = AF_VSOCK, .port = PROTO_PORT, .cid = VSOCK_CID_ANY};
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 128) == 0)
        return fd;
    klog_error("cannot listen on vsock port %u: %s", PROTO_PORT, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Tell the host that we listen, or why we never will. The host may be slow to listen itself. */
static void send_beacon(const char *error)
{
    struct vsock_addr a = {.family = AF_VSOCK, .port = PROTO_PORT, .cid = VSOCK_CID_HOST};
    uint8_t out[CODEC_SMALL + CODEC_ERROR];
    size_t len = codec_hello_build(out);
    int saved = 0;

    if (error)
        len += codec_error_build(out + len, PROTO_ERR_BOOT, 0, error);
    for (int try = 0; try < BEACON_TRIES; try++) {
        int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool sent = fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0 &&
                    send(fd, out, len, MSG_NOSIGNAL) == (ssize_t)len;

        saved = errno;
        if (fd >= 0)
            close(fd);
        if (sent)
            return;
        if (fd < 0)
            break; /* no vsock at all */
        usleep(100000);
    }
    klog_error("the host does not take the beacon: %s", strerror(saved));
}

static void power_off(void) __attribute__((noreturn));

static void power_off(void)
{
    sync();
    reboot(RB_POWER_OFF);
    klog_error("power-off failed: %s", strerror(errno));
    reboot(RB_HALT_SYSTEM);
    for (;;)
        pause();
}

static void give_up(const char *why) __attribute__((noreturn));

static void give_up(const char *why)
{
    klog_error("cannot start: %s", why);
    send_beacon(why);
    power_off();
}

/* All processes are gone. Only what can hold dirty data matters: volumes; the layers are read-only.
 */
static void unmount_all(void)
{
    volumes_unmount();
    sync();
    if (mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL) < 0)
        klog_info("remount of / read-only: %s", strerror(errno));
}

int main(void)
{
    /* 512 sessions of up to 7 descriptors; children set their own. */
    struct rlimit files = {65536, 65536};
    struct server_config config = {.is_init = true, .only_cid = VSOCK_CID_HOST};
    struct boot boot = {0};
    char why[400];

    if (getpid() != 1) {
        fputs("supermachine-agent: runs as PID 1 of a supermachine guest only\n", stderr);
        return 125;
    }
    umask(022);
    if (rootfs_early() < 0) {
        klog_error("cannot mount /proc, /sys and /dev: %s", strerror(errno));
        power_off();
    }
    ensure_stdio();
    parse_cmdline(&boot);
    klog_info("%u modules loaded", modules_load());
    report_small_blocks();
    setrlimit(RLIMIT_NOFILE, &files);
    if (rootfs_enter(boot.layers, why, sizeof why) < 0)
        give_up(why);
    etc_init(boot.hostname);
    loopback_up();
    if (boot.selftest)
        selftest_print(boot.layers);
    config.listen_fd = listen_vsock();
    if (config.listen_fd < 0)
        power_off();
    if (!boot.selftest)
        send_beacon(NULL);
    else if (selftest_drive())
        config.only_cid = VSOCK_CID_LOCAL;
    else
        power_off();
    if (server_run(&config) < 0)
        klog_error("the server ended: %s", strerror(errno));
    unmount_all();
    power_off();
}
