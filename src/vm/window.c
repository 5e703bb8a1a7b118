// SPDX-License-Identifier: Apache-2.0
#include "vm/window.h"

#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vm/layout.h"

#define WINDOW_MAX (1ull << 40)

static int map_fd(struct window *w, int fd, const char *path, struct sm_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return err_sys(err, "layer %s: cannot read it", path);
    if (!S_ISREG(st.st_mode) || st.st_size == 0 || (uint64_t)st.st_size > WINDOW_MAX)
        return err_set(err, SM_EINVAL, "layer %s: empty, too large, or not a regular file", path);
    size_t len = ((uint64_t)st.st_size + LAYOUT_WINDOW_ALIGN - 1) & ~(LAYOUT_WINDOW_ALIGN - 1);
    /* Aligned as the guest sees it, so that the engine may use large pages. */
    size_t room = len + LAYOUT_WINDOW_ALIGN;
    uint8_t *base = mmap(NULL, room, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return err_sys(err, "layer %s: cannot reserve address space for it", path);
    size_t front = -(uintptr_t)base & (LAYOUT_WINDOW_ALIGN - 1);
    if (front)
        munmap(base, front);
    if (LAYOUT_WINDOW_ALIGN - front)
        munmap(base + front + len, LAYOUT_WINDOW_ALIGN - front);
    w->hva = base + front;
    w->len = len;
    if (mmap(w->hva, (size_t)st.st_size, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
        int rc = err_sys(err, "layer %s: cannot map it", path);
        window_unmap(w);
        return rc;
    }
    return 0;
}

int window_map(struct window *w, const char *path, struct sm_error *err)
{
    *w = (struct window){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_sys(err, "layer %s: cannot open it", path);
    int rc = map_fd(w, fd, path, err);
    close(fd);
    return rc;
}

void window_unmap(struct window *w)
{
    if (w->hva)
        munmap(w->hva, w->len);
    *w = (struct window){0};
}
