// SPDX-License-Identifier: Apache-2.0
#include "cpu/soft/stub_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U /* Linux 6.3; needed where vm.memfd_noexec is 1 */
#endif
#define STUB_AREA_MAX ((size_t)256 << 20)

static int open_memory(int *fd, size_t size, struct sm_error *err)
{
    *fd = memfd_create("soft-stubs", MFD_CLOEXEC | MFD_EXEC);
    if (*fd < 0 && errno == EINVAL) {
        *fd = memfd_create("soft-stubs", MFD_CLOEXEC);
    }
    if (*fd < 0) {
        return err_sys(err, "memfd for generated code");
    }
    if (ftruncate(*fd, (off_t)size) < 0) {
        return err_sys(err, "memory for generated code");
    }
    return 0;
}

static int map_area(struct stub_area *a, int fd, struct sm_error *err)
{
    void *rw = mmap(NULL, a->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (rw == MAP_FAILED) {
        return err_sys(err, "map generated code for writing");
    }
    a->rw = rw;
    void *rx = mmap(NULL, a->size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    if (rx == MAP_FAILED) {
        return err_sys(err, "map generated code for execution");
    }
    a->rx = rx;
    void *index = mmap(NULL, a->n_slots * sizeof(*a->index), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (index == MAP_FAILED) {
        return err_sys(err, "index of generated code");
    }
    a->index = index;
    return 0;
}

int stub_area_new(struct stub_area **out, size_t size, struct sm_error *err)
{
    *out = NULL;
    if (size == 0 || size > STUB_AREA_MAX) {
        return err_set(err, SM_EINVAL, "generated code: bad area size %zu", size);
    }
    struct stub_area *a = calloc(1, sizeof(*a));
    if (a == NULL) {
        return err_sys(err, "generated code");
    }
    a->size = (size + 4095) & ~(size_t)4095;
    a->n_slots = 64;
    while (a->n_slots < a->size / 32) {
        a->n_slots *= 2;
    }
    int fd;
    int rc = open_memory(&fd, a->size, err);
    if (rc == 0) {
        rc = map_area(a, fd, err);
    }
    if (fd >= 0) {
        close(fd);
    }
    if (rc != 0) {
        stub_area_free(a);
        return rc;
    }
    *out = a;
    return 0;
}

void stub_area_free(struct stub_area *a)
{
    if (a == NULL) {
        return;
    }
    if (a->rw != NULL) {
        munmap(a->rw, a->size);
    }
    if (a->rx != NULL) {
        munmap((void *)a->rx, a->size);
    }
    if (a->index != NULL) {
        munmap(a->index, a->n_slots * sizeof(*a->index));
    }
    free(a);
}
