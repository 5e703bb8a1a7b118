/* SPDX-License-Identifier: Apache-2.0 */
/* WWW-Authenticate headers, one per line: no control character ever comes out of them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "image/challenge.h"
#include "image/origin.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct challenge c = {0};
    struct origin o;
    struct sm_error err;
    char *text = malloc(size + 1), *save = NULL;
    if (!text) {
        return 0;
    }
    memcpy(text, data, size);
    text[size] = '\0';
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        challenge_read(line, &c, &err);
    }
    for (const char *p = c.realm; *p; p++) {
        if ((unsigned char)*p < ' ') {
            abort();
        }
    }
    if (c.realm[0] && origin_of(c.realm, NULL, "realm", NULL, &o, &err) == SM_OK) {
        reach_of_host(o.host);
        origin_same_owner("registry.example.com", o.host);
    }
    free(text);
    return 0;
}
