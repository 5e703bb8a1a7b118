// SPDX-License-Identifier: Apache-2.0
/* Stores and images: sm_store_*, sm_image_*, and the odds and ends that every caller needs. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/err.h"
#include "base/io.h"
#include "vm/snapshot.h"

SM_API const char *sm_version(void)
{
    return SM_VERSION;
}

SM_API void sm_free(void *memory)
{
    free(memory);
}

int config_copy(void *to, size_t size, const void *from, const char *what, struct sm_error *err)
{
    size_t given;
    memset(to, 0, size);
    if (!from)
        return 0;
    memcpy(&given, from, sizeof given);
    if (given < sizeof given)
        return err_set(err, SM_EINVAL, "%s has no size: initialise it with its _INIT", what);
    for (size_t i = size; i < given; i++)
        if (((const char *)from)[i])
            return err_set(err, SM_EUNSUPPORTED, "%s has fields that this library does not know",
                           what);
    memcpy(to, from, given < size ? given : size);
    return 0;
}

SM_API int sm_store_open(const struct sm_store_config *given, sm_store **out, struct sm_error *err)
{
    struct sm_store_config config;
    char *path = NULL;
    *out = NULL;
    int rc = config_copy(&config, sizeof config, given, "sm_store_config", err);
    if (!rc && !config.path)
        rc = store_default_path(&path, err);
    if (rc)
        return rc;
    struct sm_store *s = calloc(1, sizeof *s);
    if (!s || !(s->data_dir = data_find(config.data_dir)))
        rc = err_set(err, SM_ENOMEM, "out of memory");
    else
        rc = store_open(config.path ? config.path : path, &s->store, err);
    free(path);
    if (rc) {
        sm_store_free(s);
        return rc;
    }
    tsc_now(&s->opened);
    *out = s;
    return 0;
}

SM_API void sm_store_free(sm_store *store)
{
    if (!store)
        return;
    if (store->store)
        store_close(store->store);
    free(store->data_dir);
    free(store);
}

SM_API const char *sm_store_path(const sm_store *store)
{
    return store_path(store->store);
}

SM_API const char *sm_store_data_dir(const sm_store *store)
{
    return store->data_dir;
}

static int open_image(sm_store *store, const char *ref, struct image_options *options,
                      sm_image **out, struct sm_error *err)
{
    *out = NULL;
    struct sm_image *image = calloc(1, sizeof *image);
    char *builtin = io_format("%s/images", store->data_dir);
    int rc;
    if (!image || !builtin || !(image->data_dir = strdup(store->data_dir))) {
        rc = err_set(err, SM_ENOMEM, "out of memory");
    } else {
        image->store = store->store;
        image->opened = store->opened;
        options->builtin_dir = store->data_dir[0] ? builtin : NULL;
        rc = image_open(store->store, ref, options, &image->image, err);
    }
    free(builtin);
    if (rc) {
        sm_image_free(image);
        return rc;
    }
    *out = image;
    return 0;
}

SM_API int sm_image_from_oci(sm_store *store, const char *ref, sm_image **out, struct sm_error *err)
{
    struct image_options options = {0};
    return open_image(store, ref, &options, out, err);
}

SM_API int sm_image_pull(sm_store *store, const char *ref, const struct sm_pull_config *given,
                         sm_image **out, struct sm_error *err)
{
    struct sm_pull_config config;
    sm_image *image = NULL;
    if (out)
        *out = NULL;
    int rc = config_copy(&config, sizeof config, given, "sm_pull_config", err);
    if (rc)
        return rc;
    struct image_options options = {.fresh = !config.if_missing,
                                    .insecure = config.insecure,
                                    .idle_ms = config.idle_ms,
                                    .progress = config.progress,
                                    .opaque = config.opaque};
    rc = open_image(store, ref, &options, &image, err);
    if (out)
        *out = image;
    else
        sm_image_free(image);
    return rc;
}

SM_API const char *sm_image_id(const sm_image *image)
{
    return image->image->config_digest;
}

SM_API const char *sm_image_name(const sm_image *image)
{
    return image->image->name;
}

SM_API const char *sm_image_digest(const sm_image *image)
{
    return image->image->manifest_digest;
}

SM_API void sm_image_free(sm_image *image)
{
    if (!image)
        return;
    image_free(image->image);
    snapshot_free(image->snapshot);
    free(image->data_dir);
    free(image);
}

/* Append as many pointers as there are in list (may be NULL) to argv from *n on. */
static void join(const char **argv, size_t *n, const char *const *list)
{
    for (; list && *list; list++)
        argv[(*n)++] = *list;
}

static size_t count(const char *const *list)
{
    size_t n = 0;
    while (list && list[n])
        n++;
    return n;
}

/* A copy of a list of n strings in one block. */
static char **copy_block(const char **list, size_t n)
{
    size_t bytes = (n + 1) * sizeof(char *);
    for (size_t i = 0; i < n; i++)
        bytes += strlen(list[i]) + 1;
    char **block = malloc(bytes), *text = (char *)(block + n + 1);
    for (size_t i = 0; block && i < n; i++) {
        block[i] = strcpy(text, list[i]);
        text += strlen(list[i]) + 1;
    }
    if (block)
        block[n] = NULL;
    return block;
}

SM_API int sm_image_command(const sm_image *image, const char *entrypoint, const char *const *args,
                            char ***argv, struct sm_error *err)
{
    const struct image_config *config = &image->image->config;
    const char *one[] = {entrypoint, NULL};
    const char *const *first = (const char *const *)config->entrypoint.items;
    const char *const *rest = (const char *const *)config->cmd.items;
    size_t n = 0;
    *argv = NULL;
    if (entrypoint) {
        first = entrypoint[0] ? one : NULL;
        rest = NULL;
    }
    if (count(args) > 0)
        rest = args;
    const char **joined = calloc(count(first) + count(rest) + 1, sizeof *joined);
    if (!joined)
        return err_set(err, SM_ENOMEM, "out of memory");
    join(joined, &n, first);
    join(joined, &n, rest);
    *argv = n > 0 ? copy_block(joined, n) : NULL;
    free(joined);
    if (n == 0)
        return err_set(err, SM_EINVAL,
                       "no command specified, and the image has neither Entrypoint nor Cmd");
    return *argv ? 0 : err_set(err, SM_ENOMEM, "out of memory");
}
