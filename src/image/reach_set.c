/* SPDX-License-Identifier: Apache-2.0 */
#include "image/reach_set.h"

#include <stdlib.h>
#include <string.h>

#include "image/plan.h"

void reach_set_fini(struct reach_set *set)
{
    for (int k = 0; k < STORE_KINDS; k++) {
        free(set->kinds[k].digests);
    }
    *set = (struct reach_set){0};
}

static int add(struct reach_set *set, enum store_kind kind, const char *digest,
               struct sm_error *err)
{
    struct reach_list *l = &set->kinds[kind];
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 64;
        void *grown = realloc(l->digests, cap * sizeof *l->digests);
        if (!grown) {
            return err_set(err, SM_ENOMEM, "out of memory");
        }
        l->digests = grown;
        l->cap = cap;
    }
    memcpy(l->digests[l->n++], digest, DIGEST_STR_SIZE);
    return SM_OK;
}

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, DIGEST_STR_SIZE);
}

void reach_set_sort(struct reach_set *set)
{
    for (int k = 0; k < STORE_KINDS; k++) {
        if (set->kinds[k].n) {
            qsort(set->kinds[k].digests, set->kinds[k].n, DIGEST_STR_SIZE, compare);
        }
    }
}

bool reach_set_has(const struct reach_set *set, enum store_kind kind, const char *digest)
{
    const struct reach_list *l = &set->kinds[kind];
    return l->n && bsearch(digest, l->digests, l->n, DIGEST_STR_SIZE, compare);
}

int reach_set_image(struct reach_set *set, struct store *store, const struct catalog_record *record,
                    struct sm_error *err)
{
    struct source *src = NULL;
    struct buf text = {0};
    struct manifest m = {0};
    struct plan plan = {0};
    struct descriptor d = {.size_bytes = record->manifest_bytes};
    memcpy(d.digest, record->manifest, sizeof d.digest);
    int rc = add(set, STORE_BLOB, record->manifest, err);
    rc = rc ? rc : add(set, STORE_BLOB, record->config, err);
    rc = rc ? rc : source_dir_open(store_path(store), &src, err);
    rc = rc ? rc : source_read_blob(src, &d, "its manifest", &text, err);
    rc = rc ? rc : manifest_parse(text.data, text.len, record->media_type, "its manifest", &m, err);
    for (size_t i = 0; i < m.n && !rc; i++) {
        rc = add(set, STORE_BLOB, m.items[i].digest, err);
    }
    rc = rc ? rc : plan_read(src, &m, &plan, err);
    for (size_t i = 0; i < plan.config.n_diff_ids && !rc; i++) {
        rc = add(set, STORE_LAYER, plan.config.diff_ids[i], err);
    }
    plan_fini(&plan);
    manifest_fini(&m);
    buf_fini(&text);
    source_free(src);
    return rc;
}
