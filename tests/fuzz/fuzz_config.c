/* SPDX-License-Identifier: Apache-2.0 */
/* Image configs: any bytes are a config within the limits, or an error. */
#include <stdlib.h>
#include <string.h>

#include "image/config.h"

static void check_list(const struct string_list *l)
{
    size_t total = 0;
    for (size_t i = 0; i < l->n; i++) {
        total += strlen(l->items[i]);
    }
    if (l->n > CONFIG_MAX_STRINGS || total > CONFIG_MAX_TOTAL || (l->n && l->items[l->n])) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image_config c;
    struct sm_error err = {0};
    if (config_parse(data, size, "config", &c, &err)) {
        if (err.code == SM_OK || err.text[0] == '\0' || c.os || c.diff_ids) {
            abort();
        }
        return 0;
    }
    check_list(&c.entrypoint);
    check_list(&c.cmd);
    check_list(&c.env);
    for (size_t i = 0; i < c.env.n; i++) {
        if (!strchr(c.env.items[i], '=')) {
            abort();
        }
    }
    for (size_t i = 0; i < c.n_diff_ids; i++) {
        if (!digest_valid(c.diff_ids[i])) {
            abort();
        }
    }
    config_fini(&c);
    return 0;
}
