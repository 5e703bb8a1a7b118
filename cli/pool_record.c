// SPDX-License-Identifier: Apache-2.0
#include "pool_record.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The image's as a name for a folder: FNV-1a. Nobody but the user can make two collide. */
static void name_of(const char *image, char name[RECORD_NAME_MAX + 1])
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (const char *p = image; *p; p++)
        hash = (hash ^ (unsigned char)*p) * 0x100000001b3u;
    snprintf(name, RECORD_NAME_MAX + 1, "%016llx", (unsigned long long)hash);
}

char *pool_image_ref(const char *ref)
{
    static const char *const folders[] = {"oci:", "docker-archive:", "snapshot:"};
    char *text = NULL;
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        size_t len = strlen(folders[i]);
        if (strncmp(ref, folders[i], len) != 0 || ref[len] == '/')
            continue;
        char *cwd = getcwd(NULL, 0);
        int n = cwd ? asprintf(&text, "%s%s/%s", folders[i], cwd, ref + len) : -1;
        free(cwd);
        return n < 0 ? NULL : text;
    }
    return strdup(ref);
}

int pool_record_create(struct record *r, const char *store, const char *image)
{
    char nothing[] = "", name[RECORD_NAME_MAX + 1];
    struct record_info info = {.image = (char *)image,
                               .command = nothing,
                               .created_s = time(NULL),
                               .owner = getpid(),
                               .detached = true};
    struct record old;
    name_of(image, name);
    int rc = record_make(r, store, RECORD_POOLS, name, &info);
    if (rc == EEXIST && record_find(&old, store, RECORD_POOLS, name) == 0) {
        rc = record_remove(&old);
        record_close(&old);
        if (rc == EBUSY)
            return say("pool: there is a pool of %s already; `supermachine pool stop %s` ends it",
                       image, image);
        rc = rc ? rc : record_make(r, store, RECORD_POOLS, name, &info);
    }
    return rc ? say("pool: cannot note the pool of %s in %s/" RECORD_POOLS ": %s", image, store,
                    strerror(rc))
              : 0;
}

/* The full name of an image that the store has, or NULL. */
static char *full_name(sm_store *store, const char *ref)
{
    const char *name;
    char *text = NULL, *found = NULL;
    if (sm_image_inspect(store, ref, &text, NULL) != 0)
        return NULL;
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    if (json && json_unpack(json, "{s:s}", "name", &name) == 0)
        found = strdup(name);
    json_decref(json);
    sm_free(text);
    return found;
}

int pool_record_open(struct record *r, const char *command, sm_store *store, const char *ref)
{
    char *image = pool_image_ref(ref), name[RECORD_NAME_MAX + 1];
    int rc = ENOMEM;
    if (image) {
        name_of(image, name);
        rc = record_find(r, sm_store_path(store), RECORD_POOLS, name);
        free(image);
    }
    if (rc == ENOENT && (image = full_name(store, ref)) != NULL) {
        name_of(image, name);
        rc = record_find(r, sm_store_path(store), RECORD_POOLS, name);
        free(image);
    }
    if (rc == ENOENT)
        return say("%s: there is no pool of %s: start one with `supermachine pool start %s`",
                   command, ref, ref);
    return rc ? say("%s: cannot look for the pool of %s: %s", command, ref, strerror(rc)) : 0;
}

int pool_record_unreachable(const struct record *r, const char *command, const char *image,
                            int error)
{
    int code;
    switch (record_state(r, &code)) {
    case RECORD_STARTING:
        return say("%s: the pool of %s is still starting, or just ending", command, image);
    case RECORD_RUNNING:
        return say("%s: cannot reach the pool of %s: %s", command, image, strerror(error));
    default:
        return say("%s: the pool of %s was lost: its process was killed; start it again with "
                   "`supermachine pool start %s`",
                   command, image, image);
    }
}
