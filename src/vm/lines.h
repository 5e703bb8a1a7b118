/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt wires from devices to the pins of the engine's I/O APIC. Several devices may share a
 * pin: it is up while any of their wires is (a wired OR, as active-high level-triggered lines are).
 */
#ifndef SM_VM_LINES_H
#define SM_VM_LINES_H

#include <pthread.h>

#include "cpu/engine.h"
#include "hw/irq.h"
#include "vm/layout.h"

#define LINES_MAX 96

struct lines {
    pthread_mutex_t lock;
    const struct engine_ops *ops; /* borrowed */
    struct engine *engine;        /* borrowed; NULL until lines_connect: levels are only recorded */
    unsigned n;
    uint8_t pin[LINES_MAX];             /* of each wire */
    uint8_t level[LINES_MAX];           /* of each wire */
    uint8_t asserted[LAYOUT_GSI_COUNT]; /* wires up, per pin */
    uint8_t attached[LAYOUT_GSI_COUNT]; /* wires, per pin */
};

void lines_init(struct lines *l);
void lines_fini(struct lines *l);
/* A new wire to pin gsi. At most LINES_MAX, before the VM runs. */
int lines_add(struct lines *l, unsigned gsi, struct irq *out, struct sm_error *err);
/* Before the VM runs. */
void lines_connect(struct lines *l, const struct engine_ops *ops, struct engine *engine);

/* After a load: every pin that has wires is driven as its wires are. */
void lines_sync(struct lines *l);

#endif
