/* SPDX-License-Identifier: Apache-2.0 */
/* The user's terminal, in raw mode while a guest's terminal is shown on it. */
#ifndef CLI_TERMINAL_H
#define CLI_TERMINAL_H

#include <stdbool.h>
#include <stdint.h>

/* Size of the terminal on stdin, stdout or stderr. False, and 0 x 0, when there is none. */
bool terminal_size(uint16_t *rows, uint16_t *columns);

/* Put the terminal on stdin into raw mode. It is restored by terminal_restore, at exit, and when
 * the process dies of a fault; only SIGKILL prevents it. No-op when stdin is no terminal. */
void terminal_raw(void);
void terminal_restore(void); /* idempotent; async-signal-safe */

#endif
