// SPDX-License-Identifier: Apache-2.0
#include "api/vm_volumes.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/proto.h"
#include "api/api.h"
#include "base/err.h"
#include "base/io.h"

_Static_assert(VM_MAX_VOLUMES == SM_VOLUMES_MAX && PROTO_VOLUMES_MAX == SM_VOLUMES_MAX,
               "a VM takes what the header says");

/* The path without what means nothing in it: "/a//b/" is "/a/b". */
static int clean(const char *path, char *out, struct sm_error *err)
{
    size_t len = 0;
    if (path[0] != '/')
        return err_set(err, SM_EINVAL, "\"%.80s\": a volume's path in the guest must begin with /",
                       path);
    while (*(path += strspn(path, "/"))) {
        size_t part = strcspn(path, "/");
        if (strncmp(path, "..", part) == 0 && part <= 2) /* "." too */
            return err_set(err, SM_EINVAL,
                           "\"%.80s\": a volume's path in the guest has no \".\" and \"..\" in it",
                           path);
        if (len + 1 + part > PROTO_VOLUME_PATH_MAX)
            return err_set(err, SM_EINVAL, "a volume's path in the guest is longer than %u bytes",
                           PROTO_VOLUME_PATH_MAX);
        out[len++] = '/';
        memcpy(out + len, path, part);
        len += part;
        path += part;
    }
    out[len] = 0;
    return len ? 0 : err_set(err, SM_EINVAL, "a volume cannot take the place of the guest's /");
}

static int take(struct vm_volumes *v, struct store *store, const struct sm_volume *given,
                struct sm_error *err)
{
    struct sm_volume volume;
    char path[PROTO_VOLUME_PATH_MAX + 1];
    unsigned n = v->n;
    int rc = config_copy(&volume, sizeof volume, given, "sm_volume", err);
    if (!rc && (!volume.source || !volume.path))
        rc = err_set(err, SM_EINVAL, "a volume needs a source and a path");
    rc = rc ? rc : clean(volume.path, path, err);
    for (unsigned i = 0; i < n && !rc; i++)
        if (strcmp(v->mounts[i].path, path) == 0)
            rc = err_set(err, SM_EINVAL, "two volumes are to be at %.200s", path);
    rc = rc ? rc : volume_open(store, volume.source, volume.read_only != 0, &v->open[n], err);
    if (rc)
        return rc;
    v->n++;
    v->strings[n][0] = strdup(volume.source);
    v->strings[n][1] = strdup(path);
    if (!v->strings[n][0] || !v->strings[n][1])
        return err_set(err, SM_ENOMEM, "out of memory");
    v->vm[n] = (struct vm_volume){.fd = v->open[n].fd,
                                  .read_only = v->open[n].read_only,
                                  .folder = v->open[n].folder,
                                  .uid = volume.uid,
                                  .gid = volume.gid,
                                  .name = v->strings[n][0]};
    v->mounts[n] = (struct request_volume){
        .path = v->strings[n][1], .read_only = v->open[n].read_only, .folder = v->open[n].folder};
    return 0;
}

int vm_volumes_open(struct vm_volumes *v, struct store *store, const struct sm_volume *const *given,
                    struct sm_error *err)
{
    int rc = 0;
    *v = (struct vm_volumes){0};
    for (; given && *given && !rc; given++)
        rc = v->n < VM_MAX_VOLUMES
                 ? take(v, store, *given, err)
                 : err_set(err, SM_EINVAL, "more than %d volumes", VM_MAX_VOLUMES);
    v->n_mounts = v->n;
    if (rc)
        vm_volumes_close(v);
    return rc;
}

static int lay_over(struct vm_volumes *v, struct store *store, const struct snapshot_disk *disk,
                    struct sm_error *err)
{
    struct volume *open = &v->open[v->n];
    struct vm_volume *vm = &v->vm[v->n];
    char *name = io_format("%u of the snapshot", v->n);
    int rc = name ? 0 : err_set(err, SM_ENOMEM, "out of memory");
    open->fd = -1;
    v->strings[v->n++][0] = name;
    if (rc)
        return rc;
    if (disk->read_only) {
        *vm = (struct vm_volume){.fd = disk->fd, .read_only = true, .name = name};
        return 0;
    }
    rc = store_temp_file(store, &open->fd, err);
    if (!rc && ftruncate(open->fd, (off_t)disk->bytes) != 0)
        rc = err_sys(err, "cannot make a disk of %llu bytes", (unsigned long long)disk->bytes);
    *vm = (struct vm_volume){.fd = open->fd, .over = true, .base_fd = disk->fd, .name = name};
    return rc;
}

int vm_volumes_over(struct vm_volumes *v, struct store *store, const struct snapshot *snapshot,
                    struct sm_error *err)
{
    int rc = 0;
    *v = (struct vm_volumes){0};
    for (unsigned i = 0; i < snapshot->n_disks && !rc; i++)
        rc = lay_over(v, store, &snapshot->disks[i], err);
    if (rc)
        vm_volumes_close(v);
    return rc;
}

void vm_volumes_close(struct vm_volumes *v)
{
    for (unsigned i = 0; i < v->n; i++) {
        volume_close(&v->open[i]);
        free(v->strings[i][0]);
        free(v->strings[i][1]);
    }
    *v = (struct vm_volumes){0};
}
