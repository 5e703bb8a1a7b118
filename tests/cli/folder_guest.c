// SPDX-License-Identifier: Apache-2.0
/*
 * What a program expects of files, tried in a folder: folder_guest DIR FILES (so many in one
 * folder). Prints "NAME ok" or what is wrong, a line per case; ends with the number of those that
 * failed. Runs in a guest, and on the host, where it shows that the cases themselves are right.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define CHECK(what)                                                                                \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            printf("line %d: %s: %s\n", __LINE__, #what, strerror(errno));                         \
            return false;                                                                          \
        }                                                                                          \
    } while (0)

static int make(const char *name, const char *text)
{
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);

    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? fd : -1;
}

static bool has(const char *name, const char *text)
{
    char got[256] = "";
    int fd = open(name, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, got, sizeof got - 1);

    if (fd >= 0)
        close(fd);
    return n == (ssize_t)strlen(text) && memcmp(got, text, (size_t)n) == 0;
}

static bool creating(void)
{
    int fd = make("c", "hello");

    CHECK(fd >= 0 && close(fd) == 0 && has("c", "hello"));
    CHECK(open("c", O_RDWR | O_CREAT | O_EXCL, 0644) < 0 && errno == EEXIST);
    CHECK(open("none", O_RDWR) < 0 && errno == ENOENT);
    CHECK(open("c/x", O_RDWR) < 0 && errno == ENOTDIR);
    CHECK(open(".", O_RDWR) < 0 && errno == EISDIR);
    return true;
}

static bool appending(void)
{
    int fd = make("a", "one"), other;

    CHECK(fd >= 0 && close(fd) == 0);
    fd = open("a", O_WRONLY | O_APPEND);
    other = open("a", O_WRONLY | O_APPEND);
    CHECK(write(fd, "two", 3) == 3 && write(other, "three", 5) == 5 && write(fd, "4", 1) == 1);
    CHECK(close(fd) == 0 && close(other) == 0 && has("a", "onetwothree4"));
    return true;
}

static bool truncating(void)
{
    int fd = make("t", "0123456789");
    struct stat st;
    char byte = 1;

    CHECK(ftruncate(fd, 4) == 0 && has("t", "0123"));
    CHECK(truncate("t", 100000) == 0 && fstat(fd, &st) == 0 && st.st_size == 100000);
    CHECK(pread(fd, &byte, 1, 50000) == 1 && byte == 0);
    CHECK(close(fd) == 0 && open("t", O_WRONLY | O_TRUNC) >= 0);
    CHECK(stat("t", &st) == 0 && st.st_size == 0);
    return true;
}

static bool sparse(void)
{
    int fd = make("s", "");
    struct stat st;

    CHECK(pwrite(fd, "end", 3, 8 << 20) == 3 && fsync(fd) == 0);
    CHECK(fstat(fd, &st) == 0 && st.st_size == (8 << 20) + 3 && st.st_blocks < 2048);
    CHECK(lseek(fd, 0, SEEK_DATA) > 0 && lseek(fd, 0, SEEK_HOLE) == 0);
    CHECK(fallocate(fd, 0, 0, 1 << 20) == 0 && fstat(fd, &st) == 0 && st.st_blocks >= 2048);
    CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 20) == 0);
    CHECK(fstat(fd, &st) == 0 && st.st_blocks < 2048 && close(fd) == 0);
    return true;
}

static bool renaming(void)
{
    int fd = make("r1", "new"), old = make("r2", "old");
    char got[4] = "";

    CHECK(fd >= 0 && old >= 0 && rename("r1", "r2") == 0 && has("r2", "new"));
    CHECK(pread(old, got, 3, 0) == 3 && strcmp(got, "old") == 0); /* what was there is still open */
    CHECK(access("r1", F_OK) < 0 && errno == ENOENT);
    CHECK(mkdir("rd", 0755) == 0 && rename("r2", "rd/in") == 0 && has("rd/in", "new"));
    CHECK(close(make("r3", "three")) == 0);
    CHECK(renameat2(AT_FDCWD, "r3", AT_FDCWD, "rd/in", RENAME_NOREPLACE) < 0 && errno == EEXIST);
    CHECK(renameat2(AT_FDCWD, "r3", AT_FDCWD, "rd/in", RENAME_EXCHANGE) == 0);
    CHECK(has("r3", "new") && has("rd/in", "three"));
    CHECK(rename("rd", "rd/sub") < 0 && errno == EINVAL);
    CHECK(mkdir("re", 0755) == 0 && rename("re", "rd") < 0 && errno == ENOTEMPTY);
    CHECK(write(fd, "er", 2) == 2 && has("r3", "newer") && close(fd) == 0 && close(old) == 0);
    return true;
}

static bool unlinked(void)
{
    int fd = make("u", "still"), folder;
    char got[6] = "";
    struct stat st;

    CHECK(unlink("u") == 0 && access("u", F_OK) < 0);
    CHECK(write(fd, "!", 1) == 1 && pread(fd, got, 5, 0) == 5 && strcmp(got, "still") == 0);
    CHECK(fstat(fd, &st) == 0 && st.st_nlink == 0 && st.st_size == 6);
    CHECK(ftruncate(fd, 2) == 0 && fchmod(fd, 0600) == 0 && close(fd) == 0);
    CHECK(mkdir("ud", 0755) == 0 && (folder = open("ud", O_RDONLY)) >= 0 && rmdir("ud") == 0);
    CHECK(openat(folder, "x", O_CREAT | O_RDWR, 0644) < 0 && errno == ENOENT);
    CHECK(close(folder) == 0);
    return true;
}

static bool linking(void)
{
    struct stat a, b;
    char target[32] = "";

    CHECK(close(make("h1", "x")) == 0 && link("h1", "h2") == 0);
    CHECK(stat("h1", &a) == 0 && stat("h2", &b) == 0);
    CHECK(a.st_ino == b.st_ino && b.st_nlink == 2 && unlink("h1") == 0 && has("h2", "x"));
    CHECK(symlink("h2", "l") == 0 && has("l", "x") && lstat("l", &a) == 0 && S_ISLNK(a.st_mode));
    CHECK(readlink("l", target, sizeof target) == 2 && strcmp(target, "h2") == 0);
    CHECK(symlink("loop", "loop") == 0 && open("loop", O_RDONLY) < 0 && errno == ELOOP);
    CHECK(open("l", O_RDONLY | O_NOFOLLOW) < 0 && errno == ELOOP);
    return true;
}

static bool attributes(void)
{
    const struct timespec times[2] = {{1000000000, 123456789}, {1100000000, 987654321}};
    struct stat st;
    int fd = make("m", "");

    CHECK(fchmod(fd, 0751) == 0 && fstat(fd, &st) == 0 && (st.st_mode & 07777) == 0751);
    CHECK(st.st_uid == getuid() && st.st_gid == getgid());
    CHECK(chown("m", getuid(), getgid()) == 0);
    CHECK(utimensat(AT_FDCWD, "m", times, 0) == 0 && stat("m", &st) == 0);
    CHECK(st.st_mtim.tv_sec == 1100000000 && st.st_mtim.tv_nsec == 987654321);
    CHECK(st.st_atim.tv_sec == 1000000000);
    CHECK(write(fd, "x", 1) == 1 && close(fd) == 0 && stat("m", &st) == 0);
    CHECK(st.st_mtim.tv_sec > 1600000000);
    CHECK(symlink("none", "ml") == 0);
    CHECK(utimensat(AT_FDCWD, "ml", times, AT_SYMLINK_NOFOLLOW) == 0);
    CHECK(lstat("ml", &st) == 0 && st.st_mtim.tv_sec == 1100000000);
    CHECK(mkfifo("fifo", 0640) == 0 && stat("fifo", &st) == 0 && S_ISFIFO(st.st_mode));
    return true;
}

static bool extended(void)
{
    char got[64] = "";

    CHECK(close(make("x", "")) == 0);
    if (setxattr("x", "user.one", "1", 1, 0) < 0 && errno == EOPNOTSUPP)
        return true; /* nor has the host's file system */
    CHECK(setxattr("x", "user.two", "22", 2, XATTR_CREATE) == 0);
    CHECK(setxattr("x", "user.two", "3", 1, XATTR_CREATE) < 0 && errno == EEXIST);
    CHECK(getxattr("x", "user.two", got, sizeof got) == 2 && memcmp(got, "22", 2) == 0);
    CHECK(getxattr("x", "user.none", got, sizeof got) < 0 && errno == ENODATA);
    CHECK(listxattr("x", got, sizeof got) == 18 && removexattr("x", "user.one") == 0);
    CHECK(listxattr("x", got, sizeof got) == 9);
    return true;
}

static bool mapping(void)
{
    int fd = make("map", "");
    char got[8] = "", *p;
    const size_t len = 1 << 20;

    CHECK(ftruncate(fd, (off_t)len) == 0);
    p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(p != MAP_FAILED);
    for (size_t i = 0; i < len; i += 4096)
        memcpy(p + i, "mapped", 6);
    CHECK(pread(fd, got, 6, 409600) == 6 && strcmp(got, "mapped") == 0);
    CHECK(pwrite(fd, "WROTE", 5, 0) == 5 && memcmp(p, "WROTEd", 6) == 0);
    CHECK(msync(p, len, MS_SYNC) == 0 && munmap(p, len) == 0 && close(fd) == 0);
    /* Pages that are written back through a handle that appends stay in their places. */
    fd = open("map", O_RDWR | O_APPEND);
    p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(p != MAP_FAILED);
    memcpy(p + 8192, "again", 5);
    CHECK(munmap(p, len) == 0 && fsync(fd) == 0 && write(fd, "tail", 4) == 4);
    CHECK(lseek(fd, 0, SEEK_END) == (off_t)len + 4 && close(fd) == 0);
    return true;
}

static bool locking(void)
{
    int fd = make("lock", ""), status;
    pid_t pid;

    CHECK(fd >= 0 && flock(fd, LOCK_EX) == 0);
    pid = fork();
    if (pid == 0) {
        struct flock l = {.l_type = F_WRLCK};
        int other = open("lock", O_RDWR);

        _exit(flock(other, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK ? 1
              : fcntl(other, F_SETLK, &l) != 0                             ? 2
                                                                           : 0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0 && close(fd) == 0);
    return true;
}

static unsigned many; /* files in a folder that is listed */

static bool listing(void)
{
    unsigned n = 0, again = 0;
    char name[32];
    DIR *d;

    CHECK(mkdir("many", 0755) == 0);
    for (unsigned i = 0; i < many; i++) {
        snprintf(name, sizeof name, "many/file-%05u", i);
        CHECK(mknod(name, S_IFREG | 0644, 0) == 0);
    }
    CHECK((d = opendir("many")) != NULL);
    while (readdir(d) != NULL)
        n++;
    rewinddir(d);
    while (readdir(d) != NULL)
        again++;
    CHECK(closedir(d) == 0 && n == many + 2 && again == n);
    for (unsigned i = 0; i < many; i++) {
        snprintf(name, sizeof name, "many/file-%05u", i);
        CHECK(unlink(name) == 0);
    }
    CHECK(rmdir("many") == 0);
    return true;
}

static bool copying(void)
{
    int from = make("from", "0123456789"), to = make("to", "");
    loff_t at = 2;

    CHECK(copy_file_range(from, &at, to, NULL, 5, 0) == 5 && has("to", "23456"));
    CHECK(close(from) == 0 && close(to) == 0);
    return true;
}

static bool deep(void)
{
    char path[600] = "deep";

    CHECK(mkdir(path, 0755) == 0);
    for (int i = 0; i < 100; i++) {
        strcat(path, "/sub");
        CHECK(mkdir(path, 0755) == 0);
    }
    strcat(path, "/file");
    CHECK(close(make(path, "down here")) == 0 && has(path, "down here"));
    return true;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        bool (*run)(void);
    } cases[] = {{"creating", creating},     {"appending", appending},
                 {"truncating", truncating}, {"sparse", sparse},
                 {"renaming", renaming},     {"unlinked", unlinked},
                 {"linking", linking},       {"attributes", attributes},
                 {"extended", extended},     {"mapping", mapping},
                 {"locking", locking},       {"listing", listing},
                 {"copying", copying},       {"deep", deep}};
    int failed = 0;

    if (argc != 3 || chdir(argv[1]) != 0 || (many = (unsigned)atoi(argv[2])) == 0)
        return 99;
    umask(022);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool good = cases[i].run();

        printf("%s %s\n", cases[i].name, good ? "ok" : "FAILED");
        fflush(stdout);
        failed += !good;
    }
    return failed;
}
