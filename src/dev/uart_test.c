/* SPDX-License-Identifier: Apache-2.0 */
/* The 16550 as Linux's 8250 driver looks at it, and its interrupt. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "dev/uart.h"

struct fixture {
    struct loop *loop;
    struct bus ports;
    struct uart *u;
    int level;
    char out[64];
    size_t out_len;
};

static void set_line(void *opaque, unsigned line, int level)
{
    assert_int_equal(line, UART_GSI);
    ((struct fixture *)opaque)->level = level;
}

static void sink(void *opaque, const uint8_t *data, size_t len)
{
    struct fixture *x = opaque;

    assert_true(x->out_len + len <= sizeof x->out);
    memcpy(x->out + x->out_len, data, len);
    x->out_len += len;
}

static int setup(void **state)
{
    static struct fixture x;
    struct irq irq = {set_line, &x, UART_GSI};

    memset(&x, 0, sizeof x);
    assert_int_equal(loop_new(&x.loop, NULL), 0);
    assert_int_equal(uart_new(x.loop, &irq, sink, &x, &x.u, NULL), 0);
    assert_int_equal(uart_attach(x.u, &x.ports, UART_PORT, NULL), 0);
    *state = &x;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *x = *state;

    uart_free(x->u);
    loop_free(x->loop);
    return 0;
}

static uint8_t in(struct fixture *x, unsigned reg)
{
    return (uint8_t)bus_read(&x->ports, UART_PORT + reg, 1);
}

static void out(struct fixture *x, unsigned reg, uint8_t value)
{
    bus_write(&x->ports, UART_PORT + reg, 1, value);
}

/* The steps of autoconfig() in drivers/tty/serial/8250/8250_port.c. */
static void linux_finds_a_16550a(void **state)
{
    struct fixture *x = *state;

    out(x, 1, 0);
    assert_int_equal(in(x, 1) & 0x0f, 0);
    out(x, 1, 0xff);
    assert_int_equal(in(x, 1), 0x0f);
    out(x, 1, 0);
    out(x, 4, 0x10 | 0x0a);
    assert_int_equal(in(x, 6) & 0xf0, 0x90); /* loop-back: DCD and CTS from OUT2 and RTS */
    out(x, 4, 0);
    assert_int_equal(in(x, 6) & 0xf0, 0xb0);
    out(x, 3, 0xbf);
    out(x, 2, 0);
    out(x, 3, 0);
    out(x, 2, 1);
    assert_int_equal(in(x, 2) >> 6, 3); /* FIFOs work: 16550A */
    out(x, 2, 0x21);
    assert_int_equal(in(x, 2) & 0x20, 0); /* no 64-byte FIFO */
    out(x, 7, 0x5a);
    assert_int_equal(in(x, 7), 0x5a);
    out(x, 3, 0x80);
    out(x, 0, 0x0c);
    out(x, 1, 0x01);
    assert_int_equal(in(x, 0), 0x0c);
    assert_int_equal(in(x, 1), 0x01);
    out(x, 3, 3);
    assert_int_equal(in(x, 1), 0);
    assert_int_equal(x->out_len, 0);
}

/* serial8250_do_startup(): enabling the transmit interrupt while idle must raise it, every time. */
static void transmit_interrupt(void **state)
{
    struct fixture *x = *state;

    assert_int_equal(in(x, 2), 1);
    for (int i = 0; i < 2; i++) {
        out(x, 1, 2);
        assert_int_equal(x->level, 1);
        assert_int_equal(in(x, 2) & 0x0f, 2);
        assert_int_equal(x->level, 0); /* reading it acknowledged it */
        assert_int_equal(in(x, 2) & 0x0f, 1);
        out(x, 1, 0);
    }
    out(x, 1, 2);
    in(x, 2);
    for (const char *p = "hi\n"; *p != 0; p++) {
        assert_int_equal(in(x, 5) & 0x60, 0x60);
        out(x, 0, (uint8_t)*p);
        assert_int_equal(x->level, 1);
        assert_int_equal(in(x, 2) & 0x0f, 2);
    }
    assert_int_equal(x->out_len, 3);
    assert_memory_equal(x->out, "hi\n", 3);
}

static void receive(void **state)
{
    struct fixture *x = *state;
    uint8_t many[UART_INPUT_MAX + 10] = {0};

    assert_int_equal(uart_input(x->u, (const uint8_t *)"ab", 2), 2);
    assert_int_equal(x->level, 0);
    out(x, 1, 3);
    assert_int_equal(in(x, 2) & 0x0f, 4); /* before the transmit interrupt */
    assert_int_equal(in(x, 5) & 1, 1);
    assert_int_equal(in(x, 0), 'a');
    assert_int_equal(in(x, 0), 'b');
    assert_int_equal(in(x, 5) & 1, 0);
    assert_int_equal(in(x, 2) & 0x0f, 2);
    assert_int_equal(in(x, 0), 0);
    assert_int_equal(uart_input(x->u, many, sizeof many), UART_INPUT_MAX);
    assert_int_equal(uart_input(x->u, many, 1), 0);
    assert_int_equal(x->level, 1);
    out(x, 2, 3);
    assert_int_equal(x->level, 0);
    out(x, 4, 0x10); /* what is sent in loop-back comes in, and goes nowhere else */
    out(x, 0, 'q');
    assert_int_equal(in(x, 0), 'q');
    assert_int_equal(x->out_len, 0);
}

static void every_access(void **state)
{
    struct fixture *x = *state;

    for (unsigned size = 1; size <= 8; size *= 2)
        for (unsigned reg = 0; reg < 8; reg++)
            for (unsigned v = 0; v < 256; v++) {
                bus_read(&x->ports, UART_PORT + reg, size);
                bus_write(&x->ports, UART_PORT + reg, size, v * 0x0101010101010101ull);
                x->out_len = 0;
            }
    out(x, 3, 0);
    out(x, 4, 0);
    out(x, 0, 'x');
    assert_int_equal(x->out[0], 'x');
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(linux_finds_a_16550a),
        T(transmit_interrupt),
        T(receive),
        T(every_access),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
