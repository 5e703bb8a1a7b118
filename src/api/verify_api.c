// SPDX-License-Identifier: Apache-2.0
/* sm_store_verify: images, layers and blobs (image/verify.h), then snapshots, which are the VM's.
 */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/api.h"
#include "base/err.h"
#include "image/store_snapshot.h"
#include "image/verify.h"

struct verify {
    struct store *store;
    struct sm_verify_config config;
    struct sm_verified *out;
    struct sm_error *err;
};

static void pass_problem(void *opaque, const char *what, const char *why, bool repaired)
{
    const struct verify *v = opaque;
    v->config.problem(v->config.opaque, what, why, repaired);
}

static void count_bytes(struct verify *v, int fd)
{
    struct stat st;
    if (fstat(fd, &st) == 0)
        v->out->bytes += (uint64_t)st.st_blocks * 512;
}

/* The next start of its image makes a snapshot anew that was removed. One of another version is
 * fine as it is; one that is gone was removed by somebody else. */
static int check_snapshot(void *opaque, const char *key, const char *path)
{
    struct verify *v = opaque;
    struct sm_error why = {0};
    struct snapshot *s;
    uint64_t bytes;
    int rc = snapshot_open(path, true, &s, &why);
    if (rc == SM_ENOTFOUND && access(path, F_OK) != 0)
        return 0;
    if (rc == SM_ENOMEM)
        return err_set(v->err, rc, "out of memory");
    v->out->snapshots++;
    if (rc == 0) {
        count_bytes(v, s->ram_fd);
        count_bytes(v, s->state_fd);
        for (unsigned i = 0; i < s->n_disks; i++)
            count_bytes(v, s->disks[i].fd);
        snapshot_free(s);
    } else if (rc != SM_EUNSUPPORTED) {
        bool repaired = v->config.repair && store_remove_snapshot(v->store, key, &bytes);
        v->out->problems++;
        v->out->repaired += repaired;
        if (v->config.problem)
            v->config.problem(v->config.opaque, path, why.text, repaired);
    }
    return 0;
}

SM_API int sm_store_verify(sm_store *store, const struct sm_verify_config *given,
                           struct sm_verified *out, struct sm_error *err)
{
    struct verify v = {.store = store->store, .out = out, .err = err};
    struct verify_report r;
    memset(out, 0, sizeof *out);
    int rc = config_copy(&v.config, sizeof v.config, given, "sm_verify_config", err);
    if (rc)
        return rc;
    struct verify_options options = {.repair = v.config.repair != 0,
                                     .pull.insecure = v.config.insecure,
                                     .problem = v.config.problem ? pass_problem : NULL,
                                     .opaque = &v};
    rc = verify_store(store->store, &options, &r, err);
    if (rc)
        return rc;
    *out = (struct sm_verified){.images = r.images,
                                .blobs = r.blobs,
                                .layers = r.layers,
                                .bytes = r.bytes,
                                .problems = r.problems,
                                .repaired = r.repaired};
    return store_each_snapshot(store->store, check_snapshot, &v, err);
}
