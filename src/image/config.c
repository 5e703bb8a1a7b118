/* SPDX-License-Identifier: Apache-2.0 */
/* The image config: only the members that say how to start the process and what the layers are. */
#include "image/config.h"

#include <stdlib.h>
#include <string.h>

#include "base/json_doc.h"

#define USER_MAX 256
#define PATH_LIMIT 4095

int string_list_add(struct string_list *list, const char *s)
{
    char *copy = strdup(s);
    if (!copy) {
        return -1;
    }
    if (list->n % 16 == 0) {
        char **items = realloc(list->items, (list->n + 17) * sizeof *items);
        if (!items) {
            free(copy);
            return -1;
        }
        list->items = items;
    }
    list->items[list->n++] = copy;
    list->items[list->n] = NULL;
    return 0;
}

int string_list_set_env(struct string_list *list, const char *pair)
{
    size_t name_len = strcspn(pair, "=") + 1;
    for (size_t i = 0; i < list->n; i++) {
        if (strncmp(list->items[i], pair, name_len) == 0) {
            char *copy = strdup(pair);
            if (!copy) {
                return -1;
            }
            free(list->items[i]);
            list->items[i] = copy;
            return 0;
        }
    }
    return string_list_add(list, pair);
}

void string_list_fini(struct string_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        free(list->items[i]);
    }
    free(list->items);
    *list = (struct string_list){0};
}

/* What one parse carries around. */
struct parse {
    const char *what;
    size_t total; /* string bytes taken so far */
    struct sm_error *err;
};

static int read_list(struct parse *p, const json_t *obj, const char *key, bool is_env,
                     struct string_list *out)
{
    json_t *array;
    int rc = json_doc_array(obj, key, p->what, &array, p->err);
    if (rc || !array) {
        return rc;
    }
    if (json_array_size(array) > CONFIG_MAX_STRINGS) {
        return err_set(p->err, SM_ECORRUPT, "%s: %s has more than %d entries", p->what, key,
                       CONFIG_MAX_STRINGS);
    }
    size_t i;
    json_t *item;
    json_array_foreach(array, i, item)
    {
        if (!json_is_string(item)) {
            return err_set(p->err, SM_ECORRUPT, "%s: %s[%zu] is not a string", p->what, key, i);
        }
        const char *s = json_string_value(item);
        size_t len = json_string_length(item);
        p->total += len + 1;
        if (len > CONFIG_MAX_STRING || p->total > CONFIG_MAX_TOTAL) {
            return err_set(p->err, SM_ECORRUPT, "%s: %s[%zu] is too long", p->what, key, i);
        }
        if (is_env && (s[0] == '=' || !strchr(s, '='))) {
            return err_set(p->err, SM_ECORRUPT, "%s: %s[%zu] is not NAME=value", p->what, key, i);
        }
        if (is_env ? string_list_set_env(out, s) : string_list_add(out, s)) {
            return err_set(p->err, SM_ENOMEM, "out of memory");
        }
    }
    return SM_OK;
}

static int read_string(struct parse *p, const json_t *obj, const char *key, size_t max, char **out)
{
    const char *s;
    int rc = json_doc_string(obj, key, p->what, &s, p->err);
    if (rc || !s || s[0] == '\0') {
        return rc;
    }
    if (strlen(s) > max) {
        return err_set(p->err, SM_ECORRUPT, "%s: %s is longer than %zu bytes", p->what, key, max);
    }
    *out = strdup(s);
    return *out ? SM_OK : err_set(p->err, SM_ENOMEM, "out of memory");
}

static int read_process(struct parse *p, const json_t *doc, struct image_config *out)
{
    json_t *c;
    int rc = json_doc_object(doc, "config", p->what, &c, p->err);
    if (rc || !c) {
        return rc;
    }
    if ((rc = read_list(p, c, "Entrypoint", false, &out->entrypoint)) ||
        (rc = read_list(p, c, "Cmd", false, &out->cmd)) ||
        (rc = read_list(p, c, "Env", true, &out->env)) ||
        (rc = read_string(p, c, "WorkingDir", PATH_LIMIT, &out->working_dir)) ||
        (rc = read_string(p, c, "User", USER_MAX, &out->user))) {
        return rc;
    }
    if (out->working_dir && out->working_dir[0] != '/') {
        return err_set(p->err, SM_ECORRUPT, "%s: WorkingDir \"%.100s\" is not an absolute path",
                       p->what, out->working_dir);
    }
    return SM_OK;
}

static int read_rootfs(struct parse *p, const json_t *doc, struct image_config *out)
{
    json_t *rootfs, *ids = NULL;
    const char *type = NULL;
    int rc = json_doc_object(doc, "rootfs", p->what, &rootfs, p->err);
    if (!rc && rootfs && !(rc = json_doc_string(rootfs, "type", p->what, &type, p->err))) {
        rc = json_doc_array(rootfs, "diff_ids", p->what, &ids, p->err);
    }
    if (rc) {
        return rc;
    }
    if (!rootfs || !type) {
        return err_set(p->err, SM_ECORRUPT, "%s has no rootfs: not an image config", p->what);
    }
    if (strcmp(type, "layers") != 0) {
        return err_set(p->err, SM_EUNSUPPORTED, "%s: unknown rootfs type \"%.60s\"", p->what, type);
    }
    size_t n = ids ? json_array_size(ids) : 0;
    if (n > CONFIG_MAX_LAYERS) {
        return err_set(p->err, SM_EUNSUPPORTED, "the image has %zu layers; the limit is %d", n,
                       CONFIG_MAX_LAYERS);
    }
    out->diff_ids = calloc(n + 1, sizeof *out->diff_ids);
    if (!out->diff_ids) {
        return err_set(p->err, SM_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        const char *s = json_string_value(json_array_get(ids, i));
        if (!s || !digest_valid(s)) {
            return err_set(p->err, SM_ECORRUPT, "%s: diff_ids[%zu] is not a sha256 digest: %.100s",
                           p->what, i, s ? s : "(not a string)");
        }
        memcpy(out->diff_ids[i], s, DIGEST_STR_SIZE);
    }
    out->n_diff_ids = n;
    return SM_OK;
}

int config_parse(const void *data, size_t len, const char *what, struct image_config *out,
                 struct sm_error *err)
{
    struct parse p = {.what = what, .err = err};
    json_t *doc;
    *out = (struct image_config){0};
    int rc = json_doc_parse(data, len, what, &doc, err);
    if (rc) {
        return rc;
    }
    if (!json_is_object(doc)) {
        rc = err_set(err, SM_ECORRUPT, "%s is not a JSON object", what);
    } else if ((rc = read_string(&p, doc, "os", 64, &out->os)) ||
               (rc = read_string(&p, doc, "architecture", 64, &out->architecture)) ||
               (rc = read_rootfs(&p, doc, out)) || (rc = read_process(&p, doc, out))) {
        /* err is set */
    } else if (!out->os || !out->architecture) {
        rc = err_set(err, SM_ECORRUPT, "%s does not say its os and architecture", what);
    }
    json_decref(doc);
    if (rc) {
        config_fini(out);
    }
    return rc;
}

void config_fini(struct image_config *config)
{
    free(config->os);
    free(config->architecture);
    string_list_fini(&config->entrypoint);
    string_list_fini(&config->cmd);
    string_list_fini(&config->env);
    free(config->working_dir);
    free(config->user);
    free(config->diff_ids);
    *config = (struct image_config){0};
}
