/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 16550A serial port, for early kernel messages and ttyS0. Transmission takes no time: each byte
 * is handed to the sink on the vCPU's thread, with the loop's lock held, so the sink must not
 * block. The interrupt is a level (up while IIR shows one), as virtio's are; GSI 4 by custom.
 *
 * Registers are one byte wide; a wider access, as on the ISA bus, touches successive ones.
 */
#ifndef SM_DEV_UART_H
#define SM_DEV_UART_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "hw/bus.h"
#include "hw/irq.h"
#include "hw/state.h"

#define UART_PORT 0x3f8u
#define UART_PORTS 8u
#define UART_GSI 4u
#define UART_INPUT_MAX 256u

struct uart;

typedef void uart_out_fn(void *opaque, const uint8_t *data, size_t len);

/* loop is borrowed (its lock guards the registers); out may be NULL. */
int uart_new(struct loop *loop, const struct irq *irq, uart_out_fn *out, void *opaque,
             struct uart **uart, struct sm_error *err);
void uart_free(struct uart *u);
int uart_attach(struct uart *u, struct bus *ports, uint64_t port, struct sm_error *err);

/* The walk (hw/state.h); object: struct uart. With the loop's lock held, or before loop_start(). */
#define UART_STATE_VERSION 1u
void uart_walk(struct state *s, void *object);

/* Bytes for the guest to read. Returns how many were taken: what waits is at most UART_INPUT_MAX.
 * Any thread, without the lock. */
size_t uart_input(struct uart *u, const uint8_t *data, size_t len);

#endif
