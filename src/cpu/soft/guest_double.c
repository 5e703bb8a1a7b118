/* SPDX-License-Identifier: Apache-2.0 */
/* See guest_double.h. */
#include "cpu/soft/guest_double.h"

#include <stdlib.h>
#include <string.h>

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    return 0x1234567812345678ull;
}

/* 0x80: report; 0x84: stop; 0x88: have the "device" write a RET over the guest's code at 0x20000;
 * 0x8c: stop the vCPU of this number. */
static void port_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct guest *g = opaque;
    static const uint8_t ret_7[] = {0xb8, 7, 0, 0, 0, 0xc3}; /* mov $7, %eax; ret */
    if (offset == 0 && g->n_out < 64) {
        g->out[g->n_out++] = value;
    } else if (offset == 4) {
        engine_soft.kick(g->engine, 0);
    } else if (offset == 12 && value < g->n_vcpus) {
        engine_soft.kick(g->engine, (unsigned)value);
    } else if (offset == 8) {
        assert_int_equal(mem_write(g->mem, 0x20000, ret_7, sizeof ret_7), 0);
    }
}

static uint64_t dev_read(void *opaque, uint64_t offset, unsigned size)
{
    return ((struct guest *)opaque)->mmio_value + offset;
}

static void dev_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct guest *g = opaque;
    g->mmio_value = value;
    g->mmio_writes++;
}

void guest_put64(struct guest *g, gpa_t at, uint64_t v)
{
    assert_int_equal(mem_write(g->mem, at, &v, 8), 0);
}

uint64_t guest_get64(struct guest *g, gpa_t at)
{
    uint64_t v = 0;
    assert_int_equal(mem_read(g->mem, at, &v, 8), 0);
    return v;
}

static void guest_debug(void *opaque, const char *text, size_t len)
{
    struct guest *g = opaque;
    size_t room = sizeof g->debug - 1 - strlen(g->debug);
    strncat(g->debug, text, len < room ? len : room);
}

static void make_tables(struct guest *g)
{
    guest_put64(g, GUEST_TABLES, (GUEST_TABLES + 0x1000) | 7);
    guest_put64(g, GUEST_TABLES + 0x1000, (GUEST_TABLES + 0x2000) | 7);
    guest_put64(g, GUEST_TABLES + 0x1000 + 3 * 8,
                0xc0000000ull | 0x83); /* 1 GiB page: the device hole */
    guest_put64(g, GUEST_TABLES + 0x2000, GUEST_PT | 7);
    for (unsigned i = 1; i < 8; i++) {
        guest_put64(g, GUEST_TABLES + 0x2000 + 8 * i, (uint64_t)i << 21 | 0x87);
    }
    for (unsigned i = 0; i < 512; i++) {
        guest_put64(g, GUEST_PT + 8 * i, (uint64_t)i << 12 | 7);
    }
    guest_put64(g, GUEST_GDT + 8, 0x00af9b000000ffffull);  /* CS, 64-bit */
    guest_put64(g, GUEST_GDT + 16, 0x00cf93000000ffffull); /* SS */
}

void guest_gate(struct guest *g, unsigned vector, uint64_t to)
{
    guest_put64(g, GUEST_IDT + 16 * vector,
                (to & 0xffff) | 8ull << 16 | 0x8e00ull << 32 | (to >> 16 & 0xffff) << 48);
    guest_put64(g, GUEST_IDT + 16 * vector + 8, to >> 32);
}

/* Begin anew at rip. Only while the vCPU does not run. */
static void load_vcpu(struct guest *g, unsigned vcpu, uint64_t rip)
{
    struct cpu_state s;
    assert_int_equal(engine_soft.get_state(g->engine, vcpu, &s, NULL), 0);
    s.mp = CPU_RUNNING;
    s.rip = rip;
    s.rflags = 2;
    s.gdt_base = GUEST_GDT;
    s.gdt_limit = 23;
    s.idt_base = GUEST_IDT;
    s.idt_limit = 0xfff;
    s.cr0 = 0x80010033;
    s.cr3 = GUEST_TABLES;
    s.cr4 = 0x6a0;
    s.efer = 0xd01;
    s.gpr[4] = GUEST_STACK - vcpu * GUEST_STACK_BYTES;
    s.gpr[7] = vcpu;
    s.seg[SEG_CS] = (struct seg_state){.limit = 0xffffffff, .selector = 8, .attr = 0xa09b};
    for (int i = 0; i < SEG_LDTR; i++) {
        if (i != SEG_CS) {
            s.seg[i] = (struct seg_state){.limit = 0xffffffff, .selector = 16, .attr = 0xc093};
        }
    }
    assert_int_equal(engine_soft.set_state(g->engine, vcpu, &s, NULL), 0);
}

void guest_init_debug(struct guest *g, unsigned n_vcpus, const struct engine_debug *debug,
                      const char *from, const char *to)
{
    static const struct bus_ops ports = {port_read, port_write}, device = {dev_read, dev_write};
    *g = (struct guest){.n_vcpus = n_vcpus};
    assert_int_equal(mem_new(GUEST_RAM, &g->mem, NULL), 0);
    assert_int_equal(bus_add(&g->pio, 0x80, 16, &ports, g, NULL), 0);
    assert_int_equal(bus_add(&g->mmio, MMIO_BASE, 4096, &device, g, NULL), 0);
    bool all = getenv("SM_TEST_TRANSLATE_ALL") != NULL; /* meson runs each test both ways */
    struct engine_config c = {.mem = g->mem,
                              .mmio = &g->mmio,
                              .pio = &g->pio,
                              .n_vcpus = n_vcpus,
                              .cpu_model = "v2",
                              .translate = all ? ENGINE_TRANSLATE_ALL : ENGINE_TRANSLATE_NONE,
                              .debug = *debug};
    c.debug.text = guest_debug;
    c.debug.opaque = g;
    struct sm_error err = {0};
    if (engine_soft.create(&c, &g->engine, &err)) {
        fail_msg("%s", err.text);
    }
    make_tables(g);
    assert_int_equal(mem_write(g->mem, GUEST_CODE, from, (uint64_t)(to - from)), 0);
    for (unsigned i = 0; i < n_vcpus; i++) {
        load_vcpu(g, i, GUEST_CODE);
    }
}

void guest_init_smp(struct guest *g, unsigned n_vcpus, const char *from, const char *to)
{
    struct engine_debug debug = {.check = getenv("SM_TEST_CHECK") != NULL};
    guest_init_debug(g, n_vcpus, &debug, from, to);
}

void guest_init(struct guest *g, const char *from, const char *to)
{
    guest_init_smp(g, 1, from, to);
}

void guest_fini(struct guest *g)
{
    engine_soft.destroy(g->engine);
    mem_free(g->mem);
}

enum vcpu_exit guest_run(struct guest *g)
{
    enum vcpu_exit exit;
    struct sm_error err = {0};
    if (engine_soft.run(g->engine, 0, &exit, &err)) {
        fail_msg("%s\n%s", err.text, g->debug);
    }
    return exit;
}

struct vcpu_thread {
    struct guest *g;
    unsigned index;
    pthread_t thread;
    enum vcpu_exit exit;
    struct sm_error err;
};

static void *run_vcpu(void *opaque)
{
    struct vcpu_thread *t = opaque;
    if (engine_soft.run(t->g->engine, t->index, &t->exit, &t->err)) {
        for (unsigned i = 0; i < t->g->n_vcpus; i++) {
            engine_soft.kick(t->g->engine, i);
        }
    }
    return NULL;
}

void guest_run_all(struct guest *g)
{
    struct vcpu_thread t[ENGINE_MAX_VCPUS] = {0};
    for (unsigned i = 0; i < g->n_vcpus; i++) {
        t[i] = (struct vcpu_thread){.g = g, .index = i};
        assert_int_equal(pthread_create(&t[i].thread, NULL, run_vcpu, &t[i]), 0);
    }
    for (unsigned i = 0; i < g->n_vcpus; i++) {
        pthread_join(t[i].thread, NULL);
    }
    for (unsigned i = 0; i < g->n_vcpus; i++) {
        if (t[i].exit != VCPU_EXIT_KICKED) {
            fail_msg("vCPU %u: exit %d %s\n%s", i, t[i].exit, t[i].err.text, g->debug);
        }
    }
}
