/* SPDX-License-Identifier: Apache-2.0 */
/* Asking the agent for a connection to a TCP port of the guest (agent/proto.h, CONNECT). */
#ifndef SM_AGENT_CONNECT_H
#define SM_AGENT_CONNECT_H

#include <stdint.h>

#include "base/err.h"

/*
 * fd: a fresh stream socket to the agent's port; borrowed. After 0 it is the connection, and not
 * one byte of it has been read. Blocks up to timeout_ms (-1: no limit). SM_ENOTFOUND: nobody
 * listens; SM_EGUEST: the agent refused, closed or talked nonsense; SM_ETIMEDOUT; SM_EIO.
 */
int connect_port(int fd, uint16_t port, int timeout_ms, struct sm_error *err);

#endif
