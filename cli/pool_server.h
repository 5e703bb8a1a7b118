/* SPDX-License-Identifier: Apache-2.0 */
/* What the owner of a pool does for others: each WIRE_RUN gets a VM, and the pool has it back. */
#ifndef CLI_POOL_SERVER_H
#define CLI_POOL_SERVER_H

#include <supermachine.h>

#include "record.h"

struct pool_server;

/* image and pool, of that many VMs, are borrowed until pool_server_stop. 0, or an errno. */
int pool_server_start(const struct record *r, sm_image *image, sm_pool *pool, uint32_t min,
                      uint32_t max, struct pool_server **out);
/* Make pool_server_wait return. Any thread. */
void pool_server_ask_end(struct pool_server *s);
/* Until somebody asks for the end. */
void pool_server_wait(struct pool_server *s);
/* After that: end the VMs that are in use, with their commands; answer who waits; free it. */
void pool_server_stop(struct pool_server *s);

#endif
