/* SPDX-License-Identifier: Apache-2.0 */
/* References: what is taken for a name has one normal form, which is safe in a URL and a header.
 * (".." inside a tag is lawful, and no path component.) */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "image/name.h"
#include "image/ref.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct name n, again;
    struct ref ref;
    struct sm_error err;
    char first[NAME_TEXT_MAX], second[NAME_TEXT_MAX];
    char *text = malloc(size + 1);
    if (!text) {
        return 0;
    }
    memcpy(text, data, size);
    text[size] = '\0';
    if (name_parse(text, &n, &err) == SM_OK) {
        name_format(&n, first);
        if (strpbrk(first, " \r\n\t?#%\\\"<>") || strstr(first, "/.") ||
            name_parse(first, &again, &err) != SM_OK) {
            abort();
        }
        name_format(&again, second);
        if (strcmp(first, second) != 0) {
            abort();
        }
    }
    if (ref_parse(text, &ref, &err) == SM_OK) {
        ref_fini(&ref);
    }
    free(text);
    return 0;
}
