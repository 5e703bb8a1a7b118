/* SPDX-License-Identifier: Apache-2.0 */
/* The files of /etc that Docker provides. All return 0, or -1 with errno. */
#ifndef SM_GUEST_ETC_H
#define SM_GUEST_ETC_H

#include <stdbool.h>
#include <stddef.h>

/* Kernel's host name and /etc/hostname. A missing or unwritable /etc is no error. */
int etc_set_hostname(const char *name, size_t len);
/* /etc/hosts: loopback, the current host name, then extra lines (NULL: none). */
int etc_write_hosts(const char *extra, size_t len);
/* Replaces path with a regular file; never follows or opens what stands there. */
int etc_write_file(const char *path, const char *text, size_t len);
/* /etc/machine-id (machine-id(5)), unless the image has one; *ours: the agent has written it. */
int etc_set_machine_id(const char *id, size_t len, bool *ours);
/* All of it with defaults, once at boot. */
void etc_init(const char *hostname);

#endif
