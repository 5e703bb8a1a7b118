/* SPDX-License-Identifier: Apache-2.0 */
/* What engines have to say to engine_debug.text. Any thread. */
#ifndef SM_CPU_DEBUG_H
#define SM_CPU_DEBUG_H

#include "cpu/engine.h"

/* One line, "vCPU N: " before it and a newline behind it; longer than 512 bytes: cut. */
void debug_line(const struct engine_debug *debug, unsigned vcpu, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
