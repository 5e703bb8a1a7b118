/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file shown to the guest as memory: mapped read-only, so that its pages are the host's page
 * cache and one copy for all VMs. The length is rounded up to LAYOUT_WINDOW_ALIGN; what lies behind
 * the file's end reads as zero. The file must not be cut short while mapped (layers in the store
 * never change).
 */
#ifndef SM_VM_WINDOW_H
#define SM_VM_WINDOW_H

#include <stddef.h>

#include "base/err.h"

struct window {
    void *hva; /* owned */
    size_t len;
};

/* An empty file, or anything but a regular file, is SM_EINVAL. */
int window_map(struct window *w, const char *path, struct sm_error *err);
void window_unmap(struct window *w); /* a zeroed one is fine */

#endif
