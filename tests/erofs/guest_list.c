/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PID 1 of a test guest: loads the modules of tools/build-initramfs, mounts the EROFS image on
 * /dev/pmem0 with DAX and prints everything it sees there to the serial line, one file per line;
 * contents as CRC-32, once by read(2), once through a mapping. Then powers off.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

static uint32_t table[256];

static uint32_t crc32_of(uint32_t crc, const uint8_t *p, size_t len)
{
    crc = ~crc;
    while (len--) {
        crc = table[(crc ^ *p++) & 0xff] ^ crc >> 8;
    }
    return ~crc;
}

static void make_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int k = 0; k < 8; k++) {
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320u : 0);
        }
    }
}

static void die(const char *what)
{
    printf("FAILED %s: %m\n", what);
    fflush(stdout);
    sync();
    reboot(RB_POWER_OFF);
    for (;;) {
        pause();
    }
}

static void load_modules(void)
{
    char line[256], path[300];
    FILE *f = fopen("/modules/order", "r");
    if (!f) {
        die("modules");
    }
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, " \n")] = 0;
        snprintf(path, sizeof path, "/modules/%s", line);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        syscall(SYS_finit_module, fd, "", 0); /* not every one fits this machine */
        close(fd);
    }
    fclose(f);
}

static void hex(const void *data, size_t len)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < len; i++) {
        printf("%02x", p[i]);
    }
    if (!len) {
        putchar('-');
    }
}

static void contents(int fd, uint64_t size)
{
    static uint8_t piece[1 << 20];
    uint32_t by_read = 0, by_map = 0;
    ssize_t n;
    while ((n = read(fd, piece, sizeof piece)) > 0) {
        by_read = crc32_of(by_read, piece, (size_t)n);
    }
    if (n < 0) {
        die("read");
    }
    if (size) {
        void *p = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) {
            die("mmap");
        }
        by_map = crc32_of(0, p, size);
        munmap(p, size);
    }
    printf(" %08x %08x", by_read, by_map);
}

static void xattrs(const char *path)
{
    static char names[65536], value[65536];
    ssize_t n = llistxattr(path, names, sizeof names);
    for (ssize_t i = 0; i < n; i += (ssize_t)strlen(names + i) + 1) {
        ssize_t len = lgetxattr(path, names + i, value, sizeof value);
        if (len < 0) {
            die(names + i);
        }
        putchar(' ');
        hex(names + i, strlen(names + i));
        printf("=%zd:%08x", len, crc32_of(0, (uint8_t *)value, (size_t)len));
    }
}

static void visit(const char *path, const char *name)
{
    struct stat st;
    char target[5000];
    if (lstat(path, &st)) {
        die(path);
    }
    printf("E ");
    hex(name, strlen(name));
    printf(" %o %u %u %lld.%09ld %llu %u:%u %lu %lu", st.st_mode, st.st_uid, st.st_gid,
           (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (unsigned long long)st.st_size,
           S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode) ? major(st.st_rdev) : 0,
           S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode) ? minor(st.st_rdev) : 0,
           (unsigned long)st.st_nlink, (unsigned long)st.st_ino);
    if (S_ISREG(st.st_mode)) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            die(path);
        }
        contents(fd, (uint64_t)st.st_size);
        close(fd);
    } else if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlink(path, target, sizeof target);
        putchar(' ');
        hex(target, n > 0 ? (size_t)n : 0);
        printf(" -");
    } else {
        printf(" - -");
    }
    xattrs(path);
    putchar('\n');
    DIR *d = S_ISDIR(st.st_mode) ? opendir(path) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        char child[8192];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        int n = snprintf(child, sizeof child, "%s/%s", path, e->d_name);
        visit(child, child + (n - (int)strlen(e->d_name)) - strlen(name) - (*name != 0));
    }
    if (d) {
        closedir(d);
    }
}

int main(void)
{
    mkdir("/dev", 0755);
    mkdir("/mnt", 0755);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    int fd = open("/dev/ttyS0", O_RDWR | O_CLOEXEC);
    if (fd >= 0) {
        dup2(fd, 1);
    }
    make_table();
    load_modules();
    for (int i = 0; i < 100 && access("/dev/pmem0", F_OK); i++) {
        usleep(50000);
    }
    if (mount("/dev/pmem0", "/mnt", "erofs", MS_RDONLY, "dax=always")) {
        die("mount");
    }
    visit("/mnt", "");
    printf("DONE\n");
    fflush(stdout);
    reboot(RB_POWER_OFF);
}
