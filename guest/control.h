/* SPDX-License-Identifier: Apache-2.0 */
/* SETUP, BAKE, PING and SHUTDOWN. */
#ifndef SM_GUEST_CONTROL_H
#define SM_GUEST_CONTROL_H

#include "agent/codec.h"
#include "launch.h"
#include "server.h"

/* 0: answer OK, or ERROR if r->class is set. -1: f is no control request, or is malformed. */
int control_request(struct server *s, const struct codec_frame *f, struct launch_report *r);

#endif
