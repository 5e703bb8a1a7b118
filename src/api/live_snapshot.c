// SPDX-License-Identifier: Apache-2.0
/*
 * A snapshot of a VM that runs: it writes its memory and disks, standing still meanwhile; then, as
 * it goes on, all is hashed and made durable and the folder gets its name, all of it or nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/start.h"
#include "base/err.h"
#include "base/io.h"

/* A new folder beside the one that is wanted; the caller frees its name. */
static int make_folder(const char *wanted, char **out, struct sm_error *err)
{
    size_t len = strlen(wanted);
    struct stat st;
    *out = NULL;
    while (len > 1 && wanted[len - 1] == '/')
        len--;
    if (len == 0)
        return err_set(err, SM_EINVAL, "the snapshot's folder has no name");
    if (lstat(wanted, &st) == 0)
        return err_set(err, SM_EINVAL, "%s exists already: name a new folder", wanted);
    char *temp = io_format("%.*s.new-XXXXXX", (int)len, wanted);
    if (!temp)
        return err_set(err, SM_ENOMEM, "out of memory");
    if (!mkdtemp(temp)) { /* with mode 0700: memory is private */
        int rc = err_sys(err, "cannot create a folder beside %s", wanted);
        free(temp);
        return rc;
    }
    *out = temp;
    return 0;
}

static int sync_folder(const char *path, struct sm_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd >= 0 && fsync(fd) == 0 ? 0 : err_sys(err, "cannot write %s to disk", path);
    if (fd >= 0)
        close(fd);
    return rc;
}

static int sync_parent(const char *path, struct sm_error *err)
{
    char *parent = strdup(path);
    if (!parent)
        return err_set(err, SM_ENOMEM, "out of memory");
    char *slash = strrchr(parent, '/');
    if (slash)
        slash[slash == parent] = 0;
    int rc = sync_folder(slash ? parent : ".", err);
    free(parent);
    return rc;
}

/* Give the folder its name, unless somebody has taken that meanwhile. */
static int name_folder(const char *temp, const char *wanted, struct sm_error *err)
{
    int rc = sync_folder(temp, err);
    if (!rc && renameat2(AT_FDCWD, temp, AT_FDCWD, wanted, RENAME_NOREPLACE) != 0)
        rc = errno == EEXIST
                 ? err_set(err, SM_EINVAL, "%s exists already: name a new folder", wanted)
                 : err_sys(err, "cannot rename %s to %s", temp, wanted);
    return rc ? rc : sync_parent(temp, err);
}

static void remove_folder(const char *path)
{
    for (const char *const *name = snapshot_names; *name; name++) {
        char *file = io_format("%s/%s", path, *name);
        if (file)
            unlink(file);
        free(file);
    }
    rmdir(path);
}

SM_API int sm_vm_snapshot(sm_vm *vm, const char *folder, struct sm_snapshot_info *info,
                          struct sm_error *err)
{
    char *temp;
    uint64_t pause_ns = 0;
    if (info)
        *info = (struct sm_snapshot_info){0};
    int rc = start_check_folders(vm, err);
    rc = rc ? rc : make_folder(folder, &temp, err);
    if (rc)
        return rc;
    rc = start_save(vm, temp, &pause_ns, err);
    rc = rc ? rc : name_folder(temp, folder, err);
    if (rc)
        remove_folder(temp);
    else if (info)
        info->pause_ns = pause_ns;
    free(temp);
    return rc;
}
