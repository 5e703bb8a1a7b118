/* SPDX-License-Identifier: Apache-2.0 */
#include "image/libcurl.h"

#include <dlfcn.h>
#include <string.h>

#define SONAME "libcurl.so.4"
#define OLDEST 0x075500 /* CURLOPT_PROTOCOLS_STR */

static int missing(const char *why, struct sm_error *err)
{
    return err_set(
        err, SM_EUNSUPPORTED,
        "registries are asked with libcurl 7.85 or later, which cannot be loaded (%.200s); "
        "install it (Debian: libcurl4)",
        why);
}

int libcurl_load(struct libcurl *out, struct sm_error *err)
{
    /* Not to be unloaded: what it loads in turn registers functions that run at exit. */
    void *lib = dlopen(SONAME, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!lib) {
        return missing(dlerror(), err);
    }
    const char *absent = NULL;
#define X(name)                                                                                    \
    {                                                                                              \
        void *f = dlsym(lib, "curl_" #name);                                                       \
        absent = f ? absent : "curl_" #name;                                                       \
        memcpy(&out->name, &f, sizeof f); /* ISO C has no cast for it */                           \
    }
    LIBCURL_FUNCTIONS(X)
#undef X
    dlclose(lib);
    if (!absent && out->version_info(CURLVERSION_NOW)->version_num < OLDEST) {
        absent = "this one is older";
    }
    return absent ? missing(absent, err) : SM_OK;
}
