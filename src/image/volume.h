/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VM uses as a volume: a named one of the store, any file with a disk in it, or a folder.
 *
 * A disk is locked while it is open: by one writer, or by any number of readers. The lock belongs
 * to the open file, so it goes with every duplicate of fd and ends with the last one, however that
 * comes about. Folders are not locked.
 */
#ifndef SM_IMAGE_VOLUME_H
#define SM_IMAGE_VOLUME_H

#include "image/store.h"

struct volume {
    int fd;              /* owned; read-only if asked for; of a folder with O_PATH */
    uint64_t size_bytes; /* 0 for a folder */
    bool read_only;
    bool folder;
};

/*
 * source: an absolute path, or a volume's name; a name that is not there is made. SM_EINVAL:
 * neither, neither file nor folder, not whole sectors, in use (by which process, where that can be
 * found out), or a folder that is closed to the VM's process, which has no privileges;
 * SM_ENOTFOUND, SM_EIO: it cannot be opened.
 */
int volume_open(struct store *store, const char *source, bool read_only, struct volume *out,
                struct sm_error *err);
void volume_close(struct volume *v);

/* Lock an open file. SM_EINVAL: it is in use. path is for the message. */
int volume_lock(int fd, bool shared, const char *path, struct sm_error *err);

#endif
