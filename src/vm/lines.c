// SPDX-License-Identifier: Apache-2.0
#include "vm/lines.h"

#include <string.h>

/* Any thread, often with the loop's lock held: takes only its own lock, and the engine's inside it.
 */
static void line_set(void *opaque, unsigned wire, int level)
{
    struct lines *l = opaque;
    pthread_mutex_lock(&l->lock);
    unsigned pin = l->pin[wire];
    if (l->level[wire] != !!level) {
        l->level[wire] = !!level;
        unsigned before = l->asserted[pin];
        l->asserted[pin] = (uint8_t)(level ? before + 1 : before - 1);
        if (l->engine && (before == 0) != (l->asserted[pin] == 0))
            l->ops->irq(l->engine, pin, l->asserted[pin] != 0);
    }
    pthread_mutex_unlock(&l->lock);
}

void lines_init(struct lines *l)
{
    memset(l, 0, sizeof *l);
    pthread_mutex_init(&l->lock, NULL);
}

void lines_fini(struct lines *l)
{
    pthread_mutex_destroy(&l->lock);
}

int lines_add(struct lines *l, unsigned gsi, struct irq *out, struct sm_error *err)
{
    if (l->n == LINES_MAX || gsi >= LAYOUT_GSI_COUNT)
        return err_set(err, SM_EINVAL, "too many interrupt lines");
    l->pin[l->n] = (uint8_t)gsi;
    l->attached[gsi]++;
    *out = (struct irq){.set = line_set, .opaque = l, .line = l->n++};
    return 0;
}

void lines_connect(struct lines *l, const struct engine_ops *ops, struct engine *engine)
{
    l->ops = ops;
    l->engine = engine;
}

void lines_sync(struct lines *l)
{
    pthread_mutex_lock(&l->lock);
    for (unsigned pin = 0; pin < LAYOUT_GSI_COUNT; pin++)
        if (l->attached[pin])
            l->ops->irq(l->engine, pin, l->asserted[pin] != 0);
    pthread_mutex_unlock(&l->lock);
}
