/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layer n is mounted on /l/n, the writable tmpfs on /u, the overlay on /r. mount(2) takes one page
 * of options, so the layers are named relative to /l: "lowerdir=2:1:0". Then, as switch_root does:
 * move the kernel's file systems into the new root, free the initramfs, move the new root over "/",
 * chroot.
 */
#include "rootfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "implied.h"
#include "klog.h"

#define PMEM_WAIT_MS 30000

static int fail(char *why, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static int fail(char *why, size_t size, const char *fmt, ...)
{
    int saved = errno;
    va_list ap;
    size_t used;

    va_start(ap, fmt);
    vsnprintf(why, size, fmt, ap);
    va_end(ap);
    used = strlen(why);
    if (saved)
        snprintf(why + used, size - used, ": %s", strerror(saved));
    return -1;
}

/* mkdir that also replaces what is no directory: an image may have a link or a file there. */
static int make_dir(const char *path, mode_t mode)
{
    struct stat st;

    if (lstat(path, &st) == 0) {
        if (S_ISDIR(st.st_mode))
            return 0;
        if (unlink(path) < 0)
            return -1;
    }
    if (mkdir(path, mode) < 0)
        return -1;
    return chmod(path, mode); /* whatever the umask is */
}

int rootfs_early(void)
{
    if (make_dir("/proc", 0555) < 0 || make_dir("/sys", 0555) < 0 || make_dir("/dev", 0755) < 0)
        return -1;
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0 ||
        mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return -1;
    /* The kernel may have mounted it already (CONFIG_DEVTMPFS_MOUNT does so only without
     * initramfs). */
    return mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755") < 0 && errno != EBUSY ? -1
                                                                                               : 0;
}

/* Probing is asynchronous to loading the module. */
static int wait_for(const char *device)
{
    const struct timespec step = {.tv_nsec = 1000000};
    struct stat st;

    for (int ms = 0; stat(device, &st) < 0; ms++) {
        if (ms == PMEM_WAIT_MS)
            return -1;
        nanosleep(&step, NULL);
    }
    return 0;
}

static int mount_layer(unsigned n, char *why, size_t size)
{
    char device[32], dir[32];

    snprintf(device, sizeof device, "/dev/pmem%u", n);
    snprintf(dir, sizeof dir, "/l/%u", n);
    if (mkdir(dir, 0755) < 0)
        return fail(why, size, "mkdir %s", dir);
    if (wait_for(device) < 0)
        return fail(why, size, "layer %u: no %s", n, device);
    if (mount(device, dir, "erofs", MS_RDONLY, "dax=always") == 0)
        return 0;
    klog_error("layer %u: no DAX (%s), mounting without", n, strerror(errno));
    if (mount(device, dir, "erofs", MS_RDONLY, NULL) == 0)
        return 0;
    return fail(why, size, "layer %u: cannot mount %s as erofs", n, device);
}

static int mount_overlay(unsigned first, unsigned layers, char *why, size_t size)
{
    char options[ROOTFS_LAYERS_MAX * 4 + 128] = "lowerdir=";
    size_t used = strlen(options);
    int status;

    for (unsigned n = layers; n-- > first;)
        used +=
            (size_t)snprintf(options + used, sizeof options - used, n > first ? "%u:" : "%u", n);
    /* redirect_dir: renaming a directory of the image works, instead of failing with EXDEV. */
    snprintf(options + used, sizeof options - used,
             ",upperdir=/u/upper,workdir=/u/work,redirect_dir=on");
    if (chdir("/l") < 0)
        return fail(why, size, "chdir /l");
    status = mount("overlay", "/r", "overlay", 0, options);
    if (status < 0) {
        options[used] = 0;
        strcat(options, ",upperdir=/u/upper,workdir=/u/work");
        status = mount("overlay", "/r", "overlay", 0, options);
    }
    return status < 0 ? fail(why, size, "cannot mount overlay of %u layers", layers) : 0;
}

/* Builds the root on /r. */
static int stack(unsigned layers, char *why, size_t size)
{
    if (mkdir("/l", 0755) < 0 || mkdir("/u", 0755) < 0 || mkdir("/r", 0755) < 0)
        return fail(why, size, "mkdir");
    if (mount("tmpfs", layers ? "/u" : "/r", "tmpfs", 0, "mode=0755") < 0)
        return fail(why, size, "cannot mount tmpfs");
    if (layers == 0)
        return 0;
    if (mkdir("/u/upper", 0755) < 0 || mkdir("/u/work", 0755) < 0)
        return fail(why, size, "mkdir");
    for (unsigned n = 0; n < layers; n++)
        if (mount_layer(n, why, size) < 0)
            return -1;
    unsigned first = implied_first("/l", layers);
    if (mount_overlay(first, layers, why, size) < 0)
        return -1;
    implied_restore("/l", first, layers, "/r");
    return 0;
}

/* What containers find below /dev and /sys besides what the kernel puts there. None is worth dying
 * for. */
static void mount_extras(void)
{
    static const struct {
        const char *type, *path, *options;
        mode_t mode;
        unsigned long flags;
    } extras[] = {
        {"devpts", "/dev/pts", "ptmxmode=0666,mode=0620,gid=5", 0755, MS_NOSUID | MS_NOEXEC},
        {"tmpfs", "/dev/shm", "mode=1777", 01777, MS_NOSUID | MS_NODEV | MS_NOEXEC},
        {"mqueue", "/dev/mqueue", NULL, 01777, MS_NOSUID | MS_NODEV | MS_NOEXEC},
        {"cgroup2", "/sys/fs/cgroup", NULL, 0, MS_NOSUID | MS_NODEV | MS_NOEXEC},
    };
    static const char *const links[][2] = {{"/proc/self/fd", "/dev/fd"},
                                           {"/proc/self/fd/0", "/dev/stdin"},
                                           {"/proc/self/fd/1", "/dev/stdout"},
                                           {"/proc/self/fd/2", "/dev/stderr"},
                                           {"/proc/kcore", "/dev/core"}};

    for (size_t i = 0; i < sizeof extras / sizeof *extras; i++) {
        if ((extras[i].mode && make_dir(extras[i].path, extras[i].mode) < 0) ||
            mount(extras[i].type, extras[i].path, extras[i].type, extras[i].flags,
                  extras[i].options) < 0)
            klog_info("%s: %s", extras[i].path, strerror(errno));
    }
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        if (symlink(links[i][0], links[i][1]) < 0 && errno != EEXIST)
            klog_info("%s: %s", links[i][1], strerror(errno));
}

/* Frees the memory of the initramfs: its files, one level deep, while no mount hides them. */
static void empty_dir(const char *path)
{
    DIR *d = opendir(path);

    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d))
        if (e->d_type == DT_REG)
            unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
}

static int switch_root(char *why, size_t size)
{
    static const char *const moved[][2] = {
        {"/proc", "/r/proc"}, {"/sys", "/r/sys"}, {"/dev", "/r/dev"}};

    for (size_t i = 0; i < 3; i++)
        if (make_dir(moved[i][1], i == 2 ? 0755 : 0555) < 0 ||
            mount(moved[i][0], moved[i][1], NULL, MS_MOVE, NULL) < 0)
            return fail(why, size, "cannot move %s into the image", moved[i][0]);
    empty_dir("/modules");
    empty_dir("/");
    if (chdir("/r") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
        chdir("/") < 0)
        return fail(why, size, "cannot enter the image");
    return 0;
}

int rootfs_enter(unsigned layers, char *why, size_t why_size)
{
    struct stat st;

    errno = 0;
    if (layers > ROOTFS_LAYERS_MAX)
        return fail(why, why_size, "%u layers, the most is %u", layers, ROOTFS_LAYERS_MAX);
    if (stack(layers, why, why_size) < 0 || switch_root(why, why_size) < 0)
        return -1;
    mount_extras();
    /* Docker leaves both to the image; programs count on them. */
    if (stat("/tmp", &st) < 0 && make_dir("/tmp", 01777) < 0)
        klog_info("/tmp: %s", strerror(errno));
    if (stat("/run", &st) < 0 && make_dir("/run", 0755) < 0)
        klog_info("/run: %s", strerror(errno));
    return 0;
}
