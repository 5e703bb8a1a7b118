/* SPDX-License-Identifier: Apache-2.0 */
/* docker-save archives and OCI layouts in a tar: any bytes resolve to a plan, or to an error;
 * entries of a plan can be opened and read to their end. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "image/plan.h"

/* One store and one file for the whole run; removed by the system's cleaning of /tmp. */
static struct store *the_store(void)
{
    static struct store *store;
    char dir[] = "/tmp/sm-fuzz.XXXXXX";
    if (!store && (!mkdtemp(dir) || store_open(dir, &store, NULL))) {
        abort();
    }
    return store;
}

static void read_layers(struct source *src, const struct plan *plan)
{
    for (size_t i = 0; i < plan->n_layers; i++) {
        struct stream *s;
        char block[4096];
        uint64_t got = 0;
        ssize_t n;
        if (source_open_entry(src, plan->layers[i].entry, &s, NULL)) {
            continue;
        }
        while (got < (1 << 20) && (n = s->read(s, block, sizeof block)) > 0) {
            got += (uint64_t)n;
        }
        if (got > s->size_bytes) {
            abort();
        }
        s->close(s);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct source *src;
    struct plan plan;
    struct sm_error err = {0};
    char path[64];
    int fd = memfd_create("archive", MFD_CLOEXEC);
    if (fd < 0 || io_write_full(fd, data, size)) {
        abort();
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (source_tar_open(path, the_store(), &src, &err) == SM_OK) {
        if (docker_archive_resolve(src, NULL, &plan, &err) == SM_OK) {
            if (plan.n_layers == 0 || plan.n_layers != plan.config.n_diff_ids) {
                abort();
            }
            read_layers(src, &plan);
            plan_fini(&plan);
        } else if (err.text[0] == '\0' || plan.layers) {
            abort();
        }
        source_free(src);
    }
    close(fd);
    return 0;
}
