/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests and indexes: any bytes are a document or an error, and a document's entries can be
 * chosen from. */
#include <stdlib.h>

#include "image/manifest.h"
#include "image/platform.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const claims[] = {NULL, "application/vnd.oci.image.index.v1+json",
                                         "application/vnd.oci.image.manifest.v1+json"};
    for (size_t c = 0; c < sizeof claims / sizeof claims[0]; c++) {
        struct manifest m;
        struct sm_error err = {0};
        if (manifest_parse(data, size, claims[c], "document", &m, &err)) {
            if (err.code == SM_OK || err.text[0] == '\0' || m.items) {
                abort(); /* an error without words, or with remains */
            }
            continue;
        }
        const struct descriptor **entries = calloc(m.n + 1, sizeof *entries);
        size_t chosen = m.n;
        if (!entries) {
            abort();
        }
        for (size_t i = 0; i < m.n; i++) {
            entries[i] = &m.items[i];
            if (!digest_valid(m.items[i].digest)) {
                abort();
            }
        }
        if (platform_select(entries, m.n, "document", &chosen, &err) == SM_OK && chosen >= m.n) {
            abort();
        }
        free(entries);
        manifest_fini(&m);
    }
    return 0;
}
