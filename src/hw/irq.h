/* SPDX-License-Identifier: Apache-2.0 */
/* A wire to an interrupt controller; nobody who drives it knows what is behind it. Any thread. */
#ifndef SM_HW_IRQ_H
#define SM_HW_IRQ_H

struct irq {
    void (*set)(void *opaque, unsigned line, int level);
    void *opaque;  /* borrowed */
    unsigned line; /* global system interrupt (GSI) number */
};

static inline void irq_set(const struct irq *irq, int level)
{
    irq->set(irq->opaque, irq->line, level);
}

/* Assert and release: an edge-triggered interrupt. */
static inline void irq_pulse(const struct irq *irq)
{
    irq_set(irq, 1);
    irq_set(irq, 0);
}

#endif
