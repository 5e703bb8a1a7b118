/* SPDX-License-Identifier: Apache-2.0 */
/* A connection of the host to a TCP port of the guest, in a process of its own. */
#ifndef SM_GUEST_RELAY_H
#define SM_GUEST_RELAY_H

#include <stdint.h>

/* Fork the process that answers CONNECT on conn, and then carries bytes both ways until both have
 * ended. The caller keeps its copy of conn, and closes it. 0, or -1 with errno. */
int relay_start(int conn, uint16_t port);

#endif
