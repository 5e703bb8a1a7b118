/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest prints on its first serial port: passed on, its end kept, and watched for the mark
 * of a kernel panic. (A guest program can print the mark too; it only changes how the VM's end is
 * worded.)
 */
#ifndef SM_VM_CONSOLE_H
#define SM_VM_CONSOLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONSOLE_KEEP 16384

struct console {
    pthread_mutex_t lock;
    void (*sink)(void *opaque, const uint8_t *data, size_t len); /* or NULL */
    void *sink_opaque;                                           /* borrowed */
    uint64_t total;                                              /* bytes ever written */
    unsigned matched; /* bytes of the panic mark seen in a row */
    bool panicked;
    uint8_t ring[CONSOLE_KEEP];
};

void console_init(struct console *c, void (*sink)(void *, const uint8_t *, size_t), void *opaque);
void console_fini(struct console *c);
/* A uart_out_fn; opaque is the console. */
void console_write(void *opaque, const uint8_t *data, size_t len);
/* The last bytes, at most size - 1, and a NUL; returns their number. Any thread. */
size_t console_tail(struct console *c, char *out, size_t size);
bool console_panicked(struct console *c);
/* The text of the latest line with the panic mark, from the mark on; empty if it is not there. */
void console_panic_line(struct console *c, char *out, size_t size);

#endif
