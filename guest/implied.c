/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layers are as hostile as their image: paths are bounded, links never followed (each part of a
 * path is seen to be a directory first), and what is changed lies in the guest's own overlay. An
 * image whose layers imply nothing costs one getxattr per layer.
 */
#include "implied.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "klog.h"

#define PATH_MAX_HERE 4096
#define DEPTH_MAX 128 /* one open folder each */
#define MARK "trusted.overlay.implied"
#define OPAQUE "trusted.overlay.opaque"

struct stack {
    const char *layers, *merged;
    unsigned first, count;
    char path[PATH_MAX_HERE]; /* of the directory at hand, from the root: "" or "/a/b" */
};

static char mark_of(const char *path, const char *name)
{
    char value = 0;

    return lgetxattr(path, name, &value, 1) == 1 ? value : 0;
}

/* The first len bytes of path in layer n; false when that is too long. */
static bool in_layer(const struct stack *s, unsigned n, size_t len, char out[PATH_MAX_HERE])
{
    int used = snprintf(out, PATH_MAX_HERE, "%s/%u%.*s", s->layers, n, (int)len, s->path);

    return used > 0 && used < PATH_MAX_HERE;
}

unsigned implied_first(const char *layers, unsigned count)
{
    char path[64];

    for (unsigned n = count; n-- > 1;) {
        snprintf(path, sizeof path, "%s/%u", layers, n);
        if (mark_of(path, OPAQUE) == 'y')
            return n;
    }
    return 0;
}

/* What a layer says about the path, when one looks from the top down. */
enum says {
    SAYS_NOTHING, /* look below */
    SAYS_IMPLIED, /* it is there, without an entry; look below */
    SAYS_THIS,    /* it has an entry for it */
    SAYS_END      /* nothing further down counts */
};

static enum says ask(const struct stack *s, unsigned n, bool *last)
{
    char at[PATH_MAX_HERE];
    struct stat st;
    size_t all = strlen(s->path);

    *last = false;
    for (size_t len = 0;; len += 1 + strcspn(s->path + len + 1, "/")) {
        if (!in_layer(s, n, len, at))
            return SAYS_END;
        if (lstat(at, &st) < 0)
            return errno == ENOENT ? SAYS_NOTHING : SAYS_END;
        if (!S_ISDIR(st.st_mode))
            return SAYS_END; /* a whiteout, too */
        if (len == all)      /* opaque or not: that is about what is in it */
            return mark_of(at, MARK) == 'y' ? SAYS_IMPLIED : SAYS_THIS;
        *last |= mark_of(at, OPAQUE) == 'y';
    }
}

/* The layer whose entry for the path counts; -1: there is none, or the attributes are right. */
static int source_of(const struct stack *s)
{
    bool implied = !s->path[0]; /* the root's are the writable folder's */
    bool last = false;

    for (unsigned n = s->count; n-- > s->first && !last;) {
        switch (ask(s, n, &last)) {
        case SAYS_NOTHING:
            break;
        case SAYS_IMPLIED:
            implied = true;
            break;
        case SAYS_THIS:
            return implied ? (int)n : -1;
        case SAYS_END:
            return -1;
        }
    }
    return -1;
}

static void copy_xattrs(const char *from, const char *to)
{
    static char names[65536], value[65536];
    ssize_t n = llistxattr(from, names, sizeof names);

    for (ssize_t i = 0; i < n; i += (ssize_t)strlen(names + i) + 1) {
        ssize_t len = lgetxattr(from, names + i, value, sizeof value);

        if (strncmp(names + i, "trusted.overlay.", 16) == 0)
            continue;
        /* tmpfs of this kernel may not keep user.*: as for every file that is copied up. */
        if (len >= 0 && lsetxattr(to, names + i, value, (size_t)len, 0) < 0 && errno != EOPNOTSUPP)
            klog_info("%s: %s: %s", to, names + i, strerror(errno));
    }
}

static void copy_attributes(const struct stack *s, unsigned n)
{
    char from[PATH_MAX_HERE], to[PATH_MAX_HERE];
    struct stat st;
    int used = snprintf(to, sizeof to, "%s%s", s->merged, s->path);

    if (!in_layer(s, n, strlen(s->path), from) || used < 0 || used >= (int)sizeof to)
        return;
    if (lstat(from, &st) < 0 || lchown(to, st.st_uid, st.st_gid) < 0 ||
        chmod(to, st.st_mode & 07777) < 0) {
        klog_error("%s: %s", to, strerror(errno));
        return;
    }
    copy_xattrs(from, to);
    utimensat(AT_FDCWD, to, (const struct timespec[]){st.st_atim, st.st_mtim}, AT_SYMLINK_NOFOLLOW);
}

/* The directories at and below path that layer n marks. */
static void walk(struct stack *s, unsigned n, unsigned depth)
{
    char at[PATH_MAX_HERE];
    size_t len = strlen(s->path);
    char mark = in_layer(s, n, len, at) ? mark_of(at, MARK) : 0;

    if (mark == 0)
        return;
    if (mark == 'y' && len > 0) {
        int source = source_of(s);

        if (source >= 0)
            copy_attributes(s, (unsigned)source);
    }
    DIR *d = depth < DEPTH_MAX ? opendir(at) : NULL;
    if (!d) {
        klog_error("%s: too deep for its attributes", at);
        return;
    }
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        size_t name = strlen(e->d_name);

        if (e->d_type == DT_DIR && strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            len + 1 + name < sizeof s->path) {
            s->path[len] = '/';
            memcpy(s->path + len + 1, e->d_name, name + 1);
            walk(s, n, depth + 1);
            s->path[len] = 0;
        }
    }
    closedir(d);
}

void implied_restore(const char *layers, unsigned first, unsigned count, const char *merged)
{
    struct stack s = {.layers = layers, .merged = merged, .first = first, .count = count};
    int root = source_of(&s);

    if (root >= 0)
        copy_attributes(&s, (unsigned)root);
    for (unsigned n = count; n-- > first + 1;) /* below the lowest there is nothing to take */
        walk(&s, n, 0);
}
