// SPDX-License-Identifier: Apache-2.0
/* The serial port: any access, any input. */
#include "dev/uart.h"
#include "fuzz_device.h"

struct line {
    int level;
    size_t out;
};

static void set_line(void *opaque, unsigned number, int level)
{
    (void)number;
    ((struct line *)opaque)->level = level;
}

static void sink(void *opaque, const uint8_t *data, size_t len)
{
    (void)data;
    ((struct line *)opaque)->out += len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    struct line line = {0, 0};
    struct irq irq = {set_line, &line, UART_GSI};
    struct bus ports = {.n_ranges = 0};
    struct loop *loop;
    struct uart *u;

    if (loop_new(&loop, NULL) != 0 || uart_new(loop, &irq, sink, &line, &u, NULL) != 0 ||
        uart_attach(u, &ports, UART_PORT, NULL) != 0)
        abort();
    while (in.left != 0) {
        uint8_t op = fuzz_u8(&in);
        uint64_t at = UART_PORT + (op >> 3 & 7);

        if (op & 1)
            bus_write(&ports, at, 1u << (op >> 6), fuzz_u32(&in));
        else if (op & 2)
            uart_input(u, data, in.left);
        else
            bus_read(&ports, at, 1u << (op >> 6));
        /* Asking twice gives the same answer, once the first has acknowledged. */
        bus_read(&ports, UART_PORT + 2, 1);
        if ((bus_read(&ports, UART_PORT + 2, 1) & 1) == (unsigned)line.level)
            abort();
    }
    uart_free(u);
    loop_free(loop);
    return 0;
}
