/* SPDX-License-Identifier: Apache-2.0 */
/* Writing files whole or not at all, and reading them, as whoever the process is by now. */
#ifndef SM_GUEST_FILE_H
#define SM_GUEST_FILE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A file being written: under another name until file_commit. What is no regular file (a device, a
 * pipe, /proc) and what lies in a folder where nothing can be created is written in place.
 */
struct file {
    int fd;
    bool in_place;
    char target[PATH_MAX], temp[PATH_MAX];
};

/* Missing folders are created. An existing file's owner stays, if the process may give files away.
 * All return 0 or an errno; after an error of any, file_discard. */
int file_create(struct file *f, const char *path);
int file_write(struct file *f, const void *data, size_t len);
int file_commit(struct file *f, uint32_t mode); /* closes it */
void file_discard(struct file *f);              /* closes it; what was there is as before */

/* All folders of path that are missing; 0 or an errno. */
int file_make_folders(const char *path);

#endif
