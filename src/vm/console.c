// SPDX-License-Identifier: Apache-2.0
#include "vm/console.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* kernel/panic.c, panic(). Its first byte occurs only once in it, which keeps the matcher simple.
 */
static const char panic_mark[] = "Kernel panic - not syncing: ";
#define PANIC_MARK_LEN (sizeof panic_mark - 1)

void console_init(struct console *c, void (*sink)(void *, const uint8_t *, size_t), void *opaque)
{
    memset(c, 0, sizeof *c);
    pthread_mutex_init(&c->lock, NULL);
    c->sink = sink;
    c->sink_opaque = opaque;
}

void console_fini(struct console *c)
{
    pthread_mutex_destroy(&c->lock);
}

static void watch(struct console *c, uint8_t byte)
{
    if (byte != (uint8_t)panic_mark[c->matched])
        c->matched = 0;
    if (byte == (uint8_t)panic_mark[c->matched] && ++c->matched == PANIC_MARK_LEN) {
        c->panicked = true;
        c->matched = 0;
    }
}

void console_write(void *opaque, const uint8_t *data, size_t len)
{
    struct console *c = opaque;
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < len; i++) {
        c->ring[c->total++ % CONSOLE_KEEP] = data[i];
        watch(c, data[i]);
    }
    pthread_mutex_unlock(&c->lock);
    if (c->sink)
        c->sink(c->sink_opaque, data, len);
}

size_t console_tail(struct console *c, char *out, size_t size)
{
    if (size == 0)
        return 0;
    pthread_mutex_lock(&c->lock);
    uint64_t len = c->total < CONSOLE_KEEP ? c->total : CONSOLE_KEEP;
    if (len > size - 1)
        len = size - 1;
    for (uint64_t i = 0; i < len; i++)
        out[i] = (char)c->ring[(c->total - len + i) % CONSOLE_KEEP];
    pthread_mutex_unlock(&c->lock);
    out[len] = 0;
    return len;
}

bool console_panicked(struct console *c)
{
    pthread_mutex_lock(&c->lock);
    bool panicked = c->panicked;
    pthread_mutex_unlock(&c->lock);
    return panicked;
}

void console_panic_line(struct console *c, char *out, size_t size)
{
    char *tail = malloc(CONSOLE_KEEP + 1);
    out[0] = 0;
    if (!tail)
        return;
    size_t len = console_tail(c, tail, CONSOLE_KEEP + 1);
    char *at = NULL, *next = tail;
    while ((next = memmem(next, len - (size_t)(next - tail), panic_mark, PANIC_MARK_LEN)))
        at = next++;
    if (at)
        snprintf(out, size, "%.*s", (int)strcspn(at, "\r\n"), at);
    free(tail);
}
