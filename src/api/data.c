// SPDX-License-Identifier: Apache-2.0
/*
 * Where the library's own files are. In a build folder the program is OUT/cli/supermachine and the
 * files are OUT/guest and OUT/images; installed they are PREFIX/share/supermachine/{guest,images}.
 * The program of a VM's process is OUT/src/worker/supermachine-vmm, installed it is
 * PREFIX/libexec/supermachine/supermachine-vmm.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/api.h"
#include "base/io.h"

static bool has_files(const char *dir)
{
    struct stat st;
    char *file = io_format("%s/guest/initramfs.cpio", dir);
    bool found = file && stat(file, &st) == 0;
    free(file);
    return found;
}

/* dir + suffix without "..", if the files are there. Takes dir's text, frees nothing. */
static char *try_dir(const char *dir, const char *suffix)
{
    char *joined = io_format("%s%s", dir, suffix);
    char *real = joined ? realpath(joined, NULL) : NULL;
    free(joined);
    if (real && has_files(real))
        return real;
    free(real);
    return NULL;
}

char *data_find(const char *wanted)
{
    char exe[4096], *found = NULL;
    if (wanted)
        return strdup(wanted);
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = 0;
    char *slash = strrchr(exe, '/');
    if (slash) {
        *slash = 0;
        found = try_dir(exe, "/.."); /* a build folder */
        if (!found)
            found = try_dir(exe, "/../share/supermachine");
    }
    if (!found)
        found = try_dir(SM_DATA_DIR, "");
    return found ? found : strdup("");
}

char *data_find_vmm(const char *data_dir)
{
    static const char *const beside[] = {"/src/worker/supermachine-vmm",
                                         "/../../libexec/supermachine/supermachine-vmm"};
    for (size_t i = 0; i < sizeof beside / sizeof beside[0]; i++) {
        char *path = io_format("%s%s", data_dir, beside[i]);
        if (!path || access(path, X_OK) == 0)
            return path;
        free(path);
    }
    return strdup(SM_LIBEXEC_DIR "/supermachine-vmm");
}
