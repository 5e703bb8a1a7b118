// SPDX-License-Identifier: Apache-2.0
/* Named volumes, for who looks after them. */
#include <stdlib.h>

#include "api/api.h"
#include "base/err.h"
#include "image/store_volume.h"

_Static_assert(SM_VOLUME_BYTES == STORE_VOLUME_BYTES, "volumes are as large as the header says");

struct listing {
    int (*each)(void *opaque, const struct sm_volume_info *info);
    void *opaque; /* borrowed */
};

static int show(void *opaque, const struct store_volume *v)
{
    const struct listing *l = opaque;
    const struct sm_volume_info info = {
        .name = v->name, .path = v->path, .size_bytes = v->size_bytes, .disk_bytes = v->disk_bytes};
    return l->each(l->opaque, &info);
}

SM_API int sm_store_volumes(sm_store *store,
                            int (*each)(void *opaque, const struct sm_volume_info *info),
                            void *opaque, struct sm_error *err)
{
    struct listing l = {each, opaque};
    return store_each_volume(store->store, show, &l, err);
}

SM_API int sm_volume_create(sm_store *store, const char *name, struct sm_error *err)
{
    char *path;
    bool made;
    int rc = store_volume_path(store->store, name, &path, &made, err);
    free(path);
    return rc;
}

SM_API int sm_volume_remove(sm_store *store, const char *name, struct sm_error *err)
{
    return store_remove_volume(store->store, name, err);
}
