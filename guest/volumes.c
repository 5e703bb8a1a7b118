/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume's disk is found by its id, not by its name, which depends on the order of probing; a
 * folder of the host's by its tag, which has the same form.
 * Mounting and unmounting are synchronous: no process of the image runs yet, or any more.
 */
#include "volumes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "klog.h"

#define DISK_WAIT_MS 5000
#define DISK_PREFIX "/dev/vd"
#define FOLDER_TYPE "virtiofs"
#define ID_SIZE 16

bool volumes_valid(const struct codec_item *item)
{
    const char *path;
    unsigned flags, n = 0;
    size_t at = 0;
    int more;

    while ((more = codec_volume_next(item, &at, &path, &flags)) > 0)
        if (++n > PROTO_VOLUMES_MAX)
            return false;
    return more == 0;
}

static bool has_id(const char *disk, const char *id)
{
    char path[300], text[32] = "";
    int fd;
    ssize_t n;

    snprintf(path, sizeof path, "/sys/block/%.200s/serial", disk);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    text[strcspn(text, "\n")] = 0;
    return strcmp(text, id) == 0;
}

/* The device file of the disk with this id. */
static bool find(const char *id, char *out, size_t size)
{
    DIR *blocks = opendir("/sys/block");
    bool found = false;

    for (struct dirent *e = blocks ? readdir(blocks) : NULL; e && !found; e = readdir(blocks)) {
        found = strncmp(e->d_name, "vd", 2) == 0 && has_id(e->d_name, id);
        if (found)
            snprintf(out, size, "/dev/%.30s", e->d_name);
    }
    if (blocks)
        closedir(blocks);
    return found;
}

static void put_id(unsigned n, char out[ID_SIZE])
{
    snprintf(out, ID_SIZE, "sm%u", n);
}

static int find_in_time(unsigned n, char *out, size_t size)
{
    const struct timespec step = {.tv_nsec = 1000000};
    char id[ID_SIZE];

    put_id(n, id);
    for (int ms = 0; !find(id, out, size); ms++) {
        if (ms == DISK_WAIT_MS) {
            errno = ENODEV;
            return -1;
        }
        nanosleep(&step, NULL);
    }
    return 0;
}

static int make_folders(const char *path)
{
    char part[PROTO_VOLUME_PATH_MAX + 1];
    struct stat st;

    for (const char *end = path + 1; end; end = strchr(end + 1, '/')) {
        snprintf(part, sizeof part, "%.*s", (int)(end - path), path);
        if (end > path + 1 && mkdir(part, 0755) < 0 && errno != EEXIST)
            return -1;
    }
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return -1;
    if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode)) {
        errno = ENOTDIR;
        return -1;
    }
    return 0;
}

/* What an errno of mount(2) means here. */
static const char *reason(void)
{
    switch (errno) {
    case EINVAL:
        return "there is no ext4 file system on it";
    case EUCLEAN:
    case EBADMSG:
        return "its file system is damaged: run e2fsck on it";
    case EROFS:
        return "its last VM was not shut down: use it once without :ro, which repairs it";
    default:
        return strerror(errno);
    }
}

/* Nothing is on it yet but what mke2fs made. */
static bool is_fresh(const char *path)
{
    DIR *d = opendir(path);
    bool fresh = d != NULL;

    for (struct dirent *e = d ? readdir(d) : NULL; e && fresh; e = readdir(d))
        fresh = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
                strcmp(e->d_name, "lost+found") == 0;
    if (d)
        closedir(d);
    return fresh;
}

/* A new volume belongs to whom its folder in the image belongs to: the image's user can write. */
static void take_over(const char *path, const struct stat *was)
{
    if (is_fresh(path) &&
        (chown(path, was->st_uid, was->st_gid) < 0 || chmod(path, was->st_mode & 07777) < 0))
        klog_info("owner of %s: %s", path, strerror(errno));
}

static int mount_folder(unsigned n, const char *path, bool read_only, char *why, size_t size)
{
    char tag[ID_SIZE];
    int saved;

    put_id(n, tag);
    if (make_folders(path) < 0) {
        saved = errno;
        snprintf(why, size, "folder for %.300s: cannot make that folder: %s", path,
                 strerror(errno));
    } else if (mount(tag, path, FOLDER_TYPE, read_only ? MS_RDONLY : 0, NULL) < 0) {
        saved = errno;
        snprintf(why, size, "folder for %.300s: %s", path,
                 errno == ENODEV ? "the guest's kernel has no virtio-fs" : strerror(errno));
    } else {
        return 0;
    }
    errno = saved;
    return -1;
}

static int mount_disk(unsigned n, const char *path, bool read_only, char *why, size_t size)
{
    char device[40];
    int status = find_in_time(n, device, sizeof device), saved;
    struct stat was;
    bool was_there = stat(path, &was) == 0;

    if (status < 0) {
        snprintf(why, size, "volume for %.300s: there is no disk sm%u", path, n);
        return -1;
    }
    if (make_folders(path) < 0) {
        saved = errno;
        snprintf(why, size, "volume for %.300s: cannot make that folder: %s", path,
                 strerror(errno));
    } else if (mount(device, path, "ext4", read_only ? MS_RDONLY : 0, NULL) < 0) {
        saved = errno;
        snprintf(why, size, "volume for %.300s: %s", path, reason());
    } else {
        if (was_there && !read_only)
            take_over(path, &was);
        return 0;
    }
    errno = saved;
    return -1;
}

int volumes_mount(const struct codec_item *item, char *why, size_t why_size)
{
    const char *path;
    unsigned flags;
    size_t at = 0;

    for (unsigned n = 0; codec_volume_next(item, &at, &path, &flags) > 0; n++) {
        bool read_only = flags & PROTO_VOLUME_READ_ONLY;
        int status = flags & PROTO_VOLUME_FOLDER ? mount_folder(n, path, read_only, why, why_size)
                                                 : mount_disk(n, path, read_only, why, why_size);
        if (status < 0)
            return -1;
    }
    return 0;
}

/* The last mount of a disk, or of a folder of the host's. */
static bool last_mount(char *path, size_t size)
{
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    bool found = false;

    for (struct mntent *m = mounts ? getmntent(mounts) : NULL; m; m = getmntent(mounts)) {
        if (strncmp(m->mnt_fsname, DISK_PREFIX, strlen(DISK_PREFIX)) == 0 ||
            strcmp(m->mnt_type, FOLDER_TYPE) == 0) {
            snprintf(path, size, "%s", m->mnt_dir);
            found = true;
        }
    }
    if (mounts)
        endmntent(mounts);
    return found;
}

void volumes_unmount(void)
{
    char path[PROTO_VOLUME_PATH_MAX + 1];

    while (last_mount(path, sizeof path)) {
        if (umount2(path, 0) == 0)
            continue;
        klog_error("cannot unmount %s: %s", path, strerror(errno));
        if (mount(NULL, path, NULL, MS_REMOUNT | MS_RDONLY, NULL) < 0)
            klog_error("cannot make %s read-only: %s", path, strerror(errno));
        if (umount2(path, MNT_DETACH) < 0)
            return;
    }
}
