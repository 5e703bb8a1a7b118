/* SPDX-License-Identifier: Apache-2.0 */
/* Docker's config.json. Helpers are not found: the search path is empty. */
#include <stdint.h>
#include <stdlib.h>

#include "image/auth.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return setenv("PATH", "/nonexistent", 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const hosts[] = {"docker.io", "localhost:5000"};
    for (size_t i = 0; i < 2; i++) {
        struct credential c;
        struct sm_error err;
        if (auth_find_in(data, size, "config.json", hosts[i], NULL, &c, &err) == SM_OK &&
            (!c.user != !c.secret)) {
            abort();
        }
        credential_fini(&c);
    }
    return 0;
}
