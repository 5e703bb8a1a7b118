/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 16550A, after the National Semiconductor PC16550D data sheet (tables 2 and 4), as far as drivers
 * look: identification by scratch, FIFO bits and modem loop-back; receive and transmit interrupts.
 */
#include "dev/uart.h"

#include <stdbool.h>
#include <stdlib.h>

enum { DATA, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR };

#define IER_RX 0x01u
#define IER_TX 0x02u
#define IER_MASK 0x0fu
#define IIR_NONE 0x01u
#define IIR_TX 0x02u
#define IIR_RX 0x04u
#define IIR_FIFOS 0xc0u
#define FCR_ENABLE 0x01u
#define FCR_CLEAR_RX 0x02u
#define LCR_DLAB 0x80u
#define MCR_LOOP 0x10u
#define MCR_MASK 0x1fu
#define LSR_DATA 0x01u
#define LSR_IDLE 0x60u  /* holding and shift register empty */
#define MSR_READY 0xb0u /* carrier, data set ready, clear to send */

struct uart {
    struct loop *loop; /* borrowed; its lock guards the rest */
    struct irq irq;
    uart_out_fn *out;
    void *opaque; /* borrowed */
    uint8_t ier, fcr, lcr, mcr, scr, dll, dlm;
    bool tx_due; /* the holding register became empty since it was last reported */
    int level;
    uint8_t input[UART_INPUT_MAX];
    unsigned in_at, in_len;
};

int uart_new(struct loop *loop, const struct irq *irq, uart_out_fn *out, void *opaque,
             struct uart **uart, struct sm_error *err)
{
    struct uart *u = calloc(1, sizeof *u);

    *uart = u;
    if (u == NULL)
        return err_set(err, SM_ENOMEM, "out of memory");
    u->loop = loop;
    u->irq = *irq;
    u->out = out;
    u->opaque = opaque;
    u->dll = 1; /* 115200 */
    return 0;
}

void uart_free(struct uart *u)
{
    free(u);
}

static uint8_t interrupt_id(const struct uart *u)
{
    if (u->ier & IER_RX && u->in_len != 0)
        return IIR_RX;
    if (u->ier & IER_TX && u->tx_due)
        return IIR_TX;
    return IIR_NONE;
}

static void update_irq(struct uart *u)
{
    int level = interrupt_id(u) != IIR_NONE;

    if (level != u->level)
        irq_set(&u->irq, level);
    u->level = level;
}

static size_t take_input(struct uart *u, const uint8_t *data, size_t len)
{
    size_t n = 0;

    for (; n < len && u->in_len < UART_INPUT_MAX; n++)
        u->input[(u->in_at + u->in_len++) % UART_INPUT_MAX] = data[n];
    return n;
}

static uint8_t read_data(struct uart *u)
{
    uint8_t byte;

    if (u->in_len == 0)
        return 0;
    byte = u->input[u->in_at];
    u->in_at = (u->in_at + 1) % UART_INPUT_MAX;
    u->in_len--;
    return byte;
}

static void write_data(struct uart *u, uint8_t byte)
{
    if (u->mcr & MCR_LOOP)
        take_input(u, &byte, 1);
    else if (u->out != NULL)
        u->out(u->opaque, &byte, 1);
    u->tx_due = true; /* it is gone already */
}

static uint8_t read_modem(const struct uart *u)
{
    uint8_t m = u->mcr;

    if (!(m & MCR_LOOP))
        return MSR_READY;
    /* Loop-back: RTS, DTR, OUT1, OUT2 appear as CTS, DSR, RI, DCD. */
    return (uint8_t)((m & 2) << 3 | (m & 1) << 5 | (m & 4) << 4 | (m & 8) << 4);
}

static uint8_t read_reg(struct uart *u, uint64_t offset)
{
    uint8_t iir;

    switch (offset) {
    case DATA:
        return u->lcr & LCR_DLAB ? u->dll : read_data(u);
    case IER:
        return u->lcr & LCR_DLAB ? u->dlm : u->ier;
    case IIR_FCR:
        iir = interrupt_id(u);
        if (iir == IIR_TX)
            u->tx_due = false; /* reading it is the acknowledgement */
        return iir | (u->fcr & FCR_ENABLE ? IIR_FIFOS : 0);
    case LCR:
        return u->lcr;
    case MCR:
        return u->mcr;
    case LSR:
        return LSR_IDLE | (u->in_len != 0 ? LSR_DATA : 0);
    case MSR:
        return read_modem(u);
    default:
        return u->scr;
    }
}

static void write_reg(struct uart *u, uint64_t offset, uint8_t value)
{
    switch (offset) {
    case DATA:
        if (u->lcr & LCR_DLAB)
            u->dll = value;
        else
            write_data(u, value);
        break;
    case IER:
        if (u->lcr & LCR_DLAB) {
            u->dlm = value;
            break;
        }
        /* Enabling the interrupt while the register is empty raises it: Linux tests for that. */
        if (value & ~u->ier & IER_TX)
            u->tx_due = true;
        u->ier = value & IER_MASK;
        break;
    case IIR_FCR:
        if (value & FCR_CLEAR_RX)
            u->in_len = 0;
        u->fcr = value;
        break;
    case LCR:
        u->lcr = value;
        break;
    case MCR:
        u->mcr = value & MCR_MASK;
        break;
    case SCR:
        u->scr = value;
        break;
    default:
        break; /* LSR and MSR are read-only */
    }
}

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    struct uart *u = opaque;
    uint64_t value = 0;

    loop_lock(u->loop);
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)read_reg(u, offset + i) << (8 * i);
    update_irq(u);
    loop_unlock(u->loop);
    return value;
}

static void port_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct uart *u = opaque;

    loop_lock(u->loop);
    for (unsigned i = 0; i < size; i++)
        write_reg(u, offset + i, (uint8_t)(value >> (8 * i)));
    update_irq(u);
    loop_unlock(u->loop);
}

int uart_attach(struct uart *u, struct bus *ports, uint64_t port, struct sm_error *err)
{
    static const struct bus_ops ops = {port_read, port_write};

    return bus_add(ports, port, UART_PORTS, &ops, u, err);
}

size_t uart_input(struct uart *u, const uint8_t *data, size_t len)
{
    size_t n;

    loop_lock(u->loop);
    n = take_input(u, data, len);
    update_irq(u);
    loop_unlock(u->loop);
    return n;
}

void uart_walk(struct state *s, void *object)
{
    struct uart *u = object;

    state_u8(s, &u->ier);
    state_u8(s, &u->fcr);
    state_u8(s, &u->lcr);
    state_u8(s, &u->mcr);
    state_u8(s, &u->scr);
    state_u8(s, &u->dll);
    state_u8(s, &u->dlm);
    state_bool(s, &u->tx_due);
    state_u32(s, &u->in_at);
    state_u32(s, &u->in_len);
    state_bytes(s, u->input, sizeof u->input);
    state_check(s, !(u->ier & ~IER_MASK) && !(u->mcr & ~MCR_MASK), "a register is impossible");
    state_check(s, u->in_at < UART_INPUT_MAX && u->in_len <= UART_INPUT_MAX,
                "the input queue is impossible");
    if (!s->loading)
        return;
    if (s->error.code != 0)
        u->in_at = u->in_len = 0;
    update_irq(u);
}
