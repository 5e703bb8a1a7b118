// SPDX-License-Identifier: Apache-2.0
#include "record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
#define MADE_UP_CHARS 12
#define WAIT_STEP_MS 50

/* Docker's rule, and the length of a host name. */
static bool name_ok(const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!plain && (i == 0 || !strchr("_.-", c)))
            return false;
    }
    return len >= 1 && len <= RECORD_NAME_MAX;
}

int record_check_name(const char *command, const char *name)
{
    if (name_ok(name))
        return 0;
    return say("%s: \"%.80s\" is no name for a VM: letters, digits, _ . - and at most %d of them",
               command, name, RECORD_NAME_MAX);
}

/* The folder of all records of a kind, or -1 with errno. */
static int open_all(const char *store, const char *kind, bool create)
{
    int root = open(store, DIR_FLAGS), all = -1;
    if (root < 0)
        return -1;
    if (!create || mkdirat(root, kind, 0700) == 0 || errno == EEXIST)
        all = openat(root, kind, DIR_FLAGS);
    close(root);
    return all;
}

static void make_up(char *name, const char *prefix)
{
    uint8_t bytes[MADE_UP_CHARS / 2] = {0};
    char *at = stpcpy(name, prefix);
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
        memcpy(bytes, &(uint32_t){(uint32_t)getpid()}, 4);
    for (unsigned i = 0; i < sizeof bytes; i++)
        at += sprintf(at, "%02x", bytes[i]);
}

/* By a temporary name: a reader never sees half of it. 0, or an errno. */
static int write_file(int dir, const char *name, const char *text)
{
    char temp[RECORD_NAME_MAX];
    snprintf(temp, sizeof temp, "%s.new", name);
    int fd = openat(dir, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    size_t len = strlen(text);
    ssize_t n = write(fd, text, len);
    int rc = n == (ssize_t)len ? 0 : n < 0 ? errno : ENOSPC;
    if (close(fd) != 0 && !rc)
        rc = errno;
    if (!rc && renameat(dir, temp, dir, name) != 0)
        rc = errno;
    return rc;
}

static int write_info(int dir, const struct record_info *info)
{
    json_t *json =
        json_pack("{s:s, s:s, s:I, s:I, s:b, s:I}", "image", info->image, "command", info->command,
                  "created", (json_int_t)info->created_s, "owner", (json_int_t)info->owner,
                  "detached", info->detached, "engine", (json_int_t)info->engine);
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    int rc = text ? write_file(dir, "vm.json", text) : EINVAL; /* no UTF-8, or no memory */
    free(text);
    json_decref(json);
    return rc;
}

static void remove_files(int dir)
{
    static const char *const files[] = {"control",     "log",       "log.1",
                                        "messages",    "vm.json",   "ended",
                                        "vm.json.new", "ended.new", "lock"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        unlinkat(dir, files[i], 0);
}

/* The owner's lock: of the open file, so it is gone with the process. 0, or an errno; EBUSY. */
static int take_lock(int fd)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &whole) == 0)
        return 0;
    return errno == EAGAIN || errno == EACCES ? EBUSY : errno;
}

/* Asked without taking it, be it for an instant: another who asks would see an owner. */
static bool is_locked(int fd)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
}

/* Whole and locked before it has its name. 0, or an errno; EEXIST: the name is taken. */
static int publish(struct record *r, int all, const struct record_info *info)
{
    char temp[RECORD_NAME_MAX + 1];
    make_up(temp, ".new-");
    if (mkdirat(all, temp, 0700) != 0)
        return errno;
    r->dir = openat(all, temp, DIR_FLAGS);
    r->lock = r->dir < 0 ? -1 : openat(r->dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int rc = r->lock < 0 ? errno : take_lock(r->lock);
    rc = rc ? rc : write_info(r->dir, info);
    if (!rc && renameat2(all, temp, all, r->name, RENAME_NOREPLACE) != 0)
        rc = errno;
    if (rc) {
        if (r->dir >= 0)
            remove_files(r->dir);
        unlinkat(all, temp, AT_REMOVEDIR);
        record_close(r);
    }
    return rc;
}

int record_make(struct record *r, const char *store, const char *kind, const char *name,
                const struct record_info *info)
{
    *r = (struct record)RECORD_NONE;
    int all = open_all(store, kind, true);
    if (all < 0)
        return errno;
    if (name)
        strcpy(r->name, name);
    else
        make_up(r->name, "");
    int rc = publish(r, all, info);
    close(all);
    return rc;
}

int record_create(struct record *r, const char *command, const char *store, const char *name,
                  const struct record_info *info)
{
    int rc = record_make(r, store, RECORD_VMS, name, info);
    if (rc == EEXIST)
        return say("%s: there is a VM named %s already: choose another name, or remove it with "
                   "`supermachine rm -f %s`",
                   command, r->name, r->name);
    return rc ? say("%s: cannot note the VM in %s/" RECORD_VMS ": %s", command, store, strerror(rc))
              : 0;
}

void record_end(struct record *r, int code)
{
    char text[16];
    snprintf(text, sizeof text, "%d\n", code);
    write_file(r->dir, "ended", text);
    unlinkat(r->dir, "control", 0);
}

int record_remove(struct record *r)
{
    char path[RECORD_NAME_MAX + 8];
    int lock = r->lock >= 0 ? r->lock : openat(r->dir, "lock", O_RDWR | O_CLOEXEC);
    int rc = lock < 0 ? errno : take_lock(lock);
    if (rc) {
        if (lock != r->lock)
            close(lock);
        return rc;
    }
    snprintf(path, sizeof path, "../%s", r->name);
    remove_files(r->dir);
    rc = unlinkat(r->dir, path, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : errno;
    if (lock != r->lock)
        close(lock);
    return rc;
}

void record_close(struct record *r)
{
    if (r->lock >= 0)
        close(r->lock);
    if (r->dir >= 0)
        close(r->dir);
    r->dir = r->lock = -1;
}

int record_find(struct record *r, const char *store, const char *kind, const char *name)
{
    *r = (struct record)RECORD_NONE;
    int all = open_all(store, kind, false), rc = 0;
    if (all >= 0)
        r->dir = openat(all, name, DIR_FLAGS);
    if (r->dir < 0)
        rc = errno;
    if (all >= 0)
        close(all);
    strcpy(r->name, name);
    return rc;
}

int record_open(struct record *r, const char *command, const char *store, const char *name)
{
    *r = (struct record)RECORD_NONE;
    if (record_check_name(command, name))
        return EXIT_OURS;
    if (record_find(r, store, RECORD_VMS, name) != 0)
        return say("%s: there is no VM named %s; see `supermachine ps -a`", command, name);
    return 0;
}

enum record_state record_state(const struct record *r, int *code)
{
    char text[16] = "";
    int lock = openat(r->dir, "lock", O_RDWR | O_CLOEXEC), fd;
    bool owned = lock >= 0 && is_locked(lock);
    if (lock >= 0)
        close(lock);
    *code = 0;
    if (owned)
        return faccessat(r->dir, "control", F_OK, 0) == 0 ? RECORD_RUNNING : RECORD_STARTING;
    fd = openat(r->dir, "ended", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return RECORD_LOST;
    if (read(fd, text, sizeof text - 1) > 0)
        *code = atoi(text);
    close(fd);
    return RECORD_ENDED;
}

/* The owner's lock is given back when its process is gone: nothing to ask, nothing to miss. */
enum record_state record_wait(const struct record *r, int *code)
{
    enum record_state state;
    while ((state = record_state(r, code)) == RECORD_RUNNING || state == RECORD_STARTING)
        poll(NULL, 0, WAIT_STEP_MS);
    return state;
}

int record_read(const struct record *r, struct record_info *info)
{
    const char *image, *command;
    json_int_t created, owner, engine = SM_ENGINE_AUTO;
    int detached;
    *info = (struct record_info){0};
    int fd = openat(r->dir, "vm.json", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    json_t *json = json_loadfd(fd, JSON_REJECT_DUPLICATES, NULL);
    close(fd);
    int rc = json && json_unpack(json, "{s:s, s:s, s:I, s:I, s:b, s?I}", "image", &image, "command",
                                 &command, "created", &created, "owner", &owner, "detached",
                                 &detached, "engine", &engine) == 0
                 ? 0
                 : EBADMSG;
    if (!rc) {
        info->image = strdup(image);
        info->command = strdup(command);
        info->created_s = created;
        info->owner = (pid_t)owner;
        info->detached = detached;
        info->engine = (uint32_t)engine;
        rc = info->image && info->command ? 0 : ENOMEM;
    }
    json_decref(json);
    return rc;
}

void record_info_fini(struct record_info *info)
{
    free(info->image);
    free(info->command);
    info->image = info->command = NULL;
}

static int plain(const struct dirent *e)
{
    return name_ok(e->d_name);
}

int record_each(const char *store, const char *kind, int (*each)(void *opaque, struct record *r),
                void *opaque)
{
    struct dirent **names;
    int all = open_all(store, kind, false), rc = 0;
    int n = all < 0 ? 0 : scandirat(all, ".", &names, plain, alphasort);
    for (int i = 0; i < n; i++) {
        struct record r = {.lock = -1, .dir = openat(all, names[i]->d_name, DIR_FLAGS)};
        strcpy(r.name, names[i]->d_name);
        if (r.dir >= 0 && !rc)
            rc = each(opaque, &r);
        record_close(&r);
        free(names[i]);
    }
    if (n > 0)
        free(names);
    if (all >= 0)
        close(all);
    return rc;
}
