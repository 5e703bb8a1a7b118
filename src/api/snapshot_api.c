// SPDX-License-Identifier: Apache-2.0
/* Snapshots by name: baking one for an image, and an image from one. */
#include <stdlib.h>
#include <string.h>

#include "api/start.h"
#include "base/err.h"
#include "image/store_snapshot.h"

/* ---- baking ---- */

static int warm_up(sm_vm *vm, const char *command, struct sm_error *err)
{
    const char *const argv[] = {"sh", "-c", command, NULL};
    struct sm_exec_spec spec = SM_EXEC_SPEC_INIT;
    struct sm_outcome outcome;
    sm_exec *exec;
    spec.argv = argv;
    int rc = sm_exec_start(vm, &spec, &exec, err);
    if (rc)
        return rc;
    rc = sm_exec_wait(exec, -1, &outcome, err);
    sm_exec_free(exec);
    if (!rc && outcome.code != 0)
        rc = err_set(err, SM_EGUEST, "it ended with %d", outcome.code);
    return rc ? err_wrap(err, rc, "warm-up command \"%.80s\"", command) : 0;
}

/* Boot, warm up, and write the snapshot into folder. */
static int make(sm_image *image, const struct sm_bake_config *config, const char *folder,
                struct sm_error *err)
{
    struct sm_vm_config machine;
    sm_vm *vm;
    int rc = config_copy(&machine, sizeof machine, config->vm, "sm_vm_config", err);
    machine.size = sizeof machine;
    machine.snapshots = SM_SNAPSHOTS_NEVER;
    rc = rc ? rc : sm_vm_start(image, &machine, &vm, err);
    if (rc)
        return rc;
    for (const char *const *w = config->warmup; !rc && w && *w; w++)
        rc = warm_up(vm, *w, err);
    if (!rc)
        rc = start_snapshot(vm, config->warmup, folder, err);
    sm_vm_free(vm);
    return rc;
}

/* Is what the store has just what would be made? */
static bool fits(const char *path, const struct sm_bake_config *config)
{
    struct snapshot *s;
    if (snapshot_open(path, false, &s, NULL) != 0)
        return false;
    bool same = start_same_warmup(s, config->warmup);
    snapshot_free(s);
    return same;
}

static int bake(sm_image *image, const struct sm_bake_config *config, const char *key, char **path,
                struct sm_error *err)
{
    struct store_snapshot made = {0};
    int rc = store_snapshot_begin(image->store, key, true, true, &made, err);
    if (rc)
        return rc;
    *path = strdup(made.path);
    if (!*path) {
        rc = err_set(err, SM_ENOMEM, "out of memory");
    } else if (!fits(made.path, config)) {
        rc = make(image, config, made.folder, err);
        rc = rc ? rc : store_snapshot_commit(&made, err);
    }
    store_snapshot_abort(&made);
    return rc;
}

SM_API int sm_image_bake(sm_image *image, const struct sm_bake_config *given, char **path,
                         struct sm_error *err)
{
    struct sm_bake_config config;
    struct sm_vm_config machine;
    struct vm_config built = {0};
    struct start_files files = {0};
    const struct vm_volumes none = {0};
    char key[START_KEY_SIZE];
    *path = NULL;
    int rc = config_copy(&config, sizeof config, given, "sm_bake_config", err);
    if (!rc && image->snapshot)
        rc = err_set(err, SM_EINVAL, "the image is a snapshot already");
    rc = rc ? rc : config_copy(&machine, sizeof machine, config.vm, "sm_vm_config", err);
    if (!rc && machine.volumes && machine.volumes[0])
        rc = err_set(err, SM_EINVAL, "a snapshot is baked without volumes");
    rc = rc ? rc : start_config(image, &machine, &built, err);
    rc = rc ? rc : start_files_init(&files, image, machine.kernel, err);
    rc = rc ? rc : start_key(image, &files, &built, &none, key, err);
    rc = rc ? rc : bake(image, &config, key, path, err);
    start_files_fini(&files);
    if (rc) {
        free(*path);
        *path = NULL;
    }
    return rc;
}

/* ---- using one ---- */

static int find_layers(struct store *store, const struct snapshot *s, struct image *image,
                       struct sm_error *err)
{
    image->layers = calloc(s->n_layers + 1u, sizeof *image->layers);
    if (!image->layers)
        return err_set(err, SM_ENOMEM, "out of memory");
    for (unsigned i = 0; i < s->n_layers; i++) {
        struct image_layer *l = &image->layers[i];
        image->n_layers = i + 1;
        l->held = (struct store_held)STORE_HELD_NONE;
        strcpy(l->diff_id, s->layer_ids[i]);
        int rc = store_hold(store, STORE_LAYER, l->diff_id, &l->held, err);
        if (rc)
            return err_wrap(err, rc, "the snapshot needs its image in the store, too");
    }
    return 0;
}

static int read_image(struct store *store, const struct snapshot *s, struct image *image,
                      struct sm_error *err)
{
    json_t *doc = json_object_get(s->document, "image");
    char *text = json_is_object(doc) ? json_dumps(doc, 0) : NULL;
    if (!text)
        return err_set(err, SM_ECORRUPT, "the snapshot does not say what its image is");
    int rc = config_parse(text, strlen(text), "the snapshot's image", &image->config, err);
    free(text);
    return rc ? rc : find_layers(store, s, image, err);
}

int image_of_snapshot(struct store *store, const char *data_dir, struct snapshot *snapshot,
                      struct sm_image **out, struct sm_error *err)
{
    struct sm_image *image = *out = calloc(1, sizeof *image);
    if (!image) {
        snapshot_free(snapshot);
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    image->snapshot = snapshot;
    image->store = store;
    image->data_dir = strdup(data_dir);
    image->image = calloc(1, sizeof *image->image);
    int rc = image->data_dir && image->image ? read_image(store, snapshot, image->image, err)
                                             : err_set(err, SM_ENOMEM, "out of memory");
    if (rc) {
        sm_image_free(image);
        *out = NULL;
    }
    return rc;
}

SM_API int sm_image_from_snapshot(sm_store *store, const char *folder, sm_image **out,
                                  struct sm_error *err)
{
    struct snapshot *snapshot;
    *out = NULL;
    int rc = snapshot_open(folder, true, &snapshot, err);
    if (rc)
        return rc;
    rc = image_of_snapshot(store->store, store->data_dir, snapshot, out, err);
    if (!rc)
        (*out)->opened = store->opened;
    return rc ? err_wrap(err, rc, "snapshot %.200s", folder) : 0;
}
