/* SPDX-License-Identifier: Apache-2.0 */
/* See sys_double.h. */
#include "cpu/soft/sys_double.h"
#include "cpu/soft/trace.h"

#include <stdlib.h>
#include <string.h>

struct double_state *double_of(struct soft_cpu *cpu)
{
    return ((struct double_cpu *)cpu)->d;
}

struct soft_cpu *double_other(struct soft_cpu *cpu)
{
    return double_of(cpu)->engine.cpus[1];
}

/* ---- run.c and soft.c ---- */

static _Noreturn void land(struct soft_cpu *cpu)
{
    struct double_state *d = double_of(cpu);

    if (!d->landing_set)
        abort();
    longjmp(d->landing, 1);
}

_Noreturn void soft_raise(struct soft_cpu *cpu, unsigned vector)
{
    cpu->exc_vector = (uint8_t)vector;
    cpu->exc_has_code = false;
    cpu->exc_code = 0;
    land(cpu);
}

_Noreturn void soft_raise_code(struct soft_cpu *cpu, unsigned vector, uint32_t code)
{
    cpu->exc_vector = (uint8_t)vector;
    cpu->exc_has_code = true;
    cpu->exc_code = code;
    land(cpu);
}

_Noreturn void soft_raise_pf(struct soft_cpu *cpu, uint64_t va, uint32_t code)
{
    cpu->cr2 = va;
    soft_raise_code(cpu, V_PF, code);
}

_Noreturn void soft_shutdown(struct soft_cpu *cpu)
{
    double_of(cpu)->shutdown = true;
    land(cpu);
}

_Noreturn void soft_fail(struct soft_cpu *cpu, const char *why)
{
    cpu->failure = why;
    soft_shutdown(cpu);
}

void soft_update_mode(struct soft_cpu *cpu)
{
    double_of(cpu)->mode_updates++;
    cpu->cpl = cpu->seg[SEG_SS].attr >> 5 & 3;
    cpu->mode = (cpu->cpl == 3 ? MODE_USER : 0) | (cpu->sys_flags & FL_TF ? MODE_STEP : 0) |
                (cpu->seg[SEG_CS].attr & SA_L ? 0 : MODE_LEGACY);
}

uint64_t soft_get_rflags(const struct soft_cpu *cpu)
{
    return (cpu->flags >> 8 & 0xd5) | (cpu->flags & 1u) << 11 | cpu->sys_flags | 2;
}

void soft_set_rflags(struct soft_cpu *cpu, uint64_t rflags)
{
    cpu->flags = (uint16_t)((rflags & 0xd5) << 8 | FLAGS_KEEP1 | (rflags >> 11 & 1));
    cpu->sys_flags = rflags & 0x3f7700;
}

void trace_event(struct soft_cpu *cpu, enum trace_what what, uint64_t a, uint64_t b, uint64_t c)
{
}

void soft_notify(struct soft_cpu *cpu, uint32_t pend_bits)
{
    atomic_fetch_or(&cpu->pending, pend_bits);
    double_of(cpu)->notified[cpu->index]++;
}

const struct bus *soft_pio(struct soft_cpu *cpu)
{
    return &cpu->engine->pio;
}

struct mem *soft_mem(struct soft_cpu *cpu)
{
    return cpu->engine->mem;
}

struct soft_ioapic *soft_ioapic(struct engine *e)
{
    return &e->ioapic;
}

struct soft_cpu *soft_vcpu(struct engine *e, unsigned index)
{
    return index < e->n_cpus ? e->cpus[index] : NULL;
}

uint64_t soft_tsc_khz(const struct engine *e)
{
    return 2000000;
}

void soft_fp_leave(struct soft_cpu *cpu)
{
    assert_int_equal(double_of(cpu)->fp_depth--, 1);
}

void soft_fp_enter(struct soft_cpu *cpu)
{
    assert_int_equal(double_of(cpu)->fp_depth++, 0);
}

/* ---- access.c ---- */

static void check(struct soft_cpu *cpu, uint64_t va, unsigned len, bool write, bool user)
{
    struct double_state *d = double_of(cpu);

    for (unsigned i = 0; i < len; i++) {
        uint64_t at = va + i;
        uint64_t page = at >> 12;
        uint32_t code = (write ? 2u : 0) | (user ? 4u : 0);

        if ((uint64_t)((int64_t)(at << 16) >> 16) != at)
            soft_raise_code(cpu, V_GP, 0);
        if (page >= FLAT_PAGES || d->absent[page])
            soft_raise_pf(cpu, at, code);
        if ((user && d->supervisor[page]) || (write && d->read_only[page]))
            soft_raise_pf(cpu, at, code | 1);
    }
}

uint64_t flat_get(struct soft_cpu *cpu, uint64_t va, unsigned size)
{
    uint64_t value = 0;

    assert_true(va + size <= FLAT_SIZE);
    memcpy(&value, double_of(cpu)->flat + va, size);
    return value;
}

void flat_set(struct soft_cpu *cpu, uint64_t va, unsigned size, uint64_t value)
{
    assert_true(va + size <= FLAT_SIZE);
    memcpy(double_of(cpu)->flat + va, &value, size);
}

static uint64_t load(struct soft_cpu *cpu, uint64_t va, unsigned size, bool user)
{
    check(cpu, va, size, false, user);
    return flat_get(cpu, va, size);
}

static void store(struct soft_cpu *cpu, uint64_t va, unsigned size, uint64_t value, bool user)
{
    check(cpu, va, size, true, user);
    flat_set(cpu, va, size, value);
}

uint64_t soft_load(struct soft_cpu *cpu, uint64_t va, unsigned size)
{
    return load(cpu, va, size, cpu->cpl == 3);
}

void soft_store(struct soft_cpu *cpu, uint64_t va, unsigned size, uint64_t value)
{
    store(cpu, va, size, value, cpu->cpl == 3);
}

uint64_t soft_sys_load(struct soft_cpu *cpu, uint64_t va, unsigned size)
{
    return load(cpu, va, size, false);
}

void soft_sys_store(struct soft_cpu *cpu, uint64_t va, unsigned size, uint64_t value)
{
    store(cpu, va, size, value, false);
}

void soft_store_bytes(struct soft_cpu *cpu, uint64_t va, const void *data, unsigned len)
{
    check(cpu, va, len, true, cpu->cpl == 3);
    memcpy(double_of(cpu)->flat + va, data, len);
}

void soft_check_access(struct soft_cpu *cpu, uint64_t va, unsigned len, enum soft_access acc)
{
    check(cpu, va, len, acc == ACC_WRITE, cpu->cpl == 3);
}

void soft_tlb_flush(struct soft_cpu *cpu, bool keep_global)
{
    double_of(cpu)->tlb_flushes++;
    if (!keep_global)
        double_of(cpu)->tlb_flushes_global++;
}

void soft_tlb_invlpg(struct soft_cpu *cpu, uint64_t va)
{
    double_of(cpu)->invlpg++;
    double_of(cpu)->invlpg_va = va;
}

uint64_t soft_ea(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t va = (uint64_t)(int64_t)insn->disp;

    if (insn->base == INSN_REG_RIP)
        va += cpu->rip;
    else if (insn->base != INSN_NO_REG)
        va += cpu->gpr[insn->base];
    if (insn->index != INSN_NO_REG)
        va += cpu->gpr[insn->index] << insn->scale;
    if (insn->addr32)
        va = (uint32_t)va;
    return insn->seg == INSN_NO_SEG ? va : va + cpu->seg_base[insn->seg];
}

/* ---- the port bus ---- */

static uint64_t port_in(void *opaque, uint64_t offset, unsigned size)
{
    struct double_state *d = opaque;

    assert_int_equal(d->fp_depth, 0);
    if (d->n_ports < 128)
        d->port[d->n_ports++] = (struct port_access){
            .port = (uint16_t)offset, .size = (uint8_t)size, .value = d->port_in};
    return d->port_in++;
}

static void port_out(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct double_state *d = opaque;

    assert_int_equal(d->fp_depth, 0);
    if (d->n_ports < 128)
        d->port[d->n_ports++] = (struct port_access){.port = (uint16_t)offset,
                                                     .size = (uint8_t)size,
                                                     .write = true,
                                                     .value = (uint32_t)value};
}

static const struct bus_ops port_ops = {.read = port_in, .write = port_out};

/* ---- set-up ---- */

static uint64_t descriptor(uint32_t base, uint32_t limit, unsigned attr)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(attr & 0xff) << 40 |
           (uint64_t)(limit & 0xf0000) << 32 | (uint64_t)(attr & 0xf000) << 40 |
           (uint64_t)(base & 0xff000000) << 32;
}

static void build_gdt(struct soft_cpu *cpu)
{
    static const struct {
        uint16_t selector;
        uint64_t value;
    } rows[] = {
        {SEL_KCODE, 0x00af9b000000ffff},   {SEL_KDATA, 0x00cf93000000ffff},
        {SEL_UCODE32, 0x00cffb000000ffff}, {SEL_UDATA, 0x00cff3000000ffff},
        {SEL_UCODE, 0x00affb000000ffff},   {SEL_ABSENT, 0x00cf73000000ffff},
        {SEL_RODATA, 0x00cff1000000ffff},  {SEL_CONFORM, 0x00af9f000000ffff},
        {SEL_XONLY, 0x00aff9000000ffff},   {SEL_BASED, 0x12cff3345678ffff},
        {SEL_KABSENT, 0x00af1b000000ffff}, {SEL_UABSENT, 0x00af7b000000ffff},
        {SEL_BOTH, 0x00effb000000ffff},    {SEL_CALLGATE, 0x0000ec0000100000},
    };

    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++)
        flat_set(cpu, AT_GDT + rows[i].selector, 8, rows[i].value);
    flat_set(cpu, AT_GDT + SEL_TSS, 8, descriptor(AT_TSS, 0x2067, SA_P | ST_TSS_AVAILABLE));
    flat_set(cpu, AT_GDT + SEL_LDT, 8, descriptor(AT_LDT, 0x1f, SA_P | ST_LDT));
    cpu->gdt_base = AT_GDT;
    cpu->gdt_limit = GDT_LIMIT;
    flat_set(cpu, AT_LDT + 8, 8, 0x00cff3000000ffff); /* LDT entry 1: user data */
}

void double_gate(struct soft_cpu *cpu, unsigned vector, unsigned type, unsigned dpl, unsigned ist,
                 uint16_t selector, bool present)
{
    uint64_t rip = AT_HANDLER + vector * 16;
    uint64_t lo = (rip & 0xffff) | (uint64_t)selector << 16 | (uint64_t)ist << 32 |
                  (uint64_t)(type | dpl << 5 | (present ? 0x80u : 0)) << 40 |
                  (rip & 0xffff0000) << 32;

    flat_set(cpu, AT_IDT + vector * 16, 8, lo);
    flat_set(cpu, AT_IDT + vector * 16 + 8, 8, rip >> 32);
}

static void load_segments(struct soft_cpu *cpu)
{
    struct segment_desc d;
    static const struct {
        uint8_t index;
        uint16_t selector;
    } rows[] = {{SEG_CS, SEL_KCODE}, {SEG_SS, SEL_KDATA}, {SEG_DS, SEL_KDATA}, {SEG_ES, SEL_KDATA}};

    for (unsigned i = 0; i < 4; i++) {
        assert_true(segment_read(cpu, rows[i].selector, &d));
        cpu->seg[rows[i].index] = d.seg;
    }
    cpu->seg[SEG_FS] = cpu->seg[SEG_GS] = cpu->seg[SEG_LDTR] = (struct seg_state){0};
    cpu->seg[SEG_TR] = (struct seg_state){
        .base = AT_TSS, .limit = 0x2067, .selector = SEL_TSS, .attr = SA_P | ST_TSS_BUSY};
    flat_set(cpu, AT_TSS + 4, 8, AT_KSTACK);
    flat_set(cpu, AT_TSS + 36, 8, AT_IST1);
    flat_set(cpu, AT_TSS + 102, 2, 104); /* I/O bitmap right behind the TSS */
}

static struct soft_cpu *make_cpu(struct double_state *d, unsigned index)
{
    struct double_cpu *c = aligned_alloc(64, (sizeof *c + 63) & ~(size_t)63);

    assert_non_null(c);
    memset(c, 0, sizeof *c);
    c->d = d;
    c->cpu.engine = &d->engine;
    c->cpu.index = index;
    c->cpu.lapic = &d->lapic[index];
    d->engine.cpus[index] = &c->cpu;
    d->engine.n_cpus = index + 1;
    soft_sys_reset(&c->cpu);
    return &c->cpu;
}

struct soft_cpu *double_new(void)
{
    struct double_state *d = calloc(1, sizeof *d);
    struct soft_cpu *cpu;

    assert_non_null(d);
    assert_int_equal(mem_new(16u << 20, &d->engine.mem, NULL), 0);
    assert_int_equal(bus_add(&d->engine.pio, 0, 0x10000, &port_ops, d, NULL), 0);
    soft_ioapic_init(&d->engine.ioapic, &d->engine);
    d->fp_depth = 1;
    d->port_in = 0x11223344;
    cpu = make_cpu(d, 0);
    make_cpu(d, 1);

    build_gdt(cpu);
    cpu->idt_base = AT_IDT;
    cpu->idt_limit = 0xfff;
    for (unsigned v = 0; v < 256; v++)
        double_gate(cpu, v, ST_INT_GATE, v == 3 || v == 4 || v == 0x80 ? 3 : 0, 0, SEL_KCODE, true);
    load_segments(cpu);
    for (unsigned i = 0; i < 2; i++) {
        d->engine.cpus[i]->cr0 = 0x80050033;
        d->engine.cpus[i]->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_FSGSBASE;
        d->engine.cpus[i]->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NX;
    }
    cpu->sys_flags = FL_IF;
    cpu->gpr[R_SP] = AT_KSTACK - 0x100;
    soft_update_mode(cpu);
    return cpu;
}

void double_free(struct soft_cpu *cpu)
{
    struct double_state *d = double_of(cpu);

    mem_free(d->engine.mem);
    free(d->engine.cpus[0]);
    free(d->engine.cpus[1]);
    free(d);
}

void double_enter_user(struct soft_cpu *cpu)
{
    segment_set_flat(cpu, SEL_UCODE | 3, SEL_UDATA | 3, 3, true);
    cpu->gpr[R_SP] = AT_USTACK - 0x100;
    soft_update_mode(cpu);
}

/* ---- running ---- */

int exec(struct soft_cpu *cpu, const char *bytes, size_t len)
{
    struct double_state *d = double_of(cpu);
    volatile int raised = -1;
    struct insn insn;

    assert_int_equal(insn_decode((const uint8_t *)bytes, len, &insn), INSN_OK);
    assert_int_equal(insn.len, len);
    cpu->insn_rip = RIP_BEFORE;
    cpu->rip = RIP_BEFORE + len;
    cpu->exc_code = 0;
    d->landing_set = true;
    if (setjmp(d->landing) == 0)
        soft_sys_exec(cpu, &insn);
    else
        raised = cpu->exc_vector;
    d->landing_set = false;
    if (raised < 0)
        cpu->delivering = 0;
    assert_int_equal(d->fp_depth, 1);
    return raised;
}

bool deliver_exception(struct soft_cpu *cpu, unsigned vector, bool has_code, uint32_t code)
{
    struct double_state *d = double_of(cpu);

    cpu->exc_vector = (uint8_t)vector;
    cpu->exc_has_code = has_code;
    cpu->exc_code = code;
    d->landing_set = true;
    (void)setjmp(d->landing);
    if (!d->shutdown)
        soft_deliver_exception(cpu);
    d->landing_set = false;
    return !d->shutdown;
}

bool deliver_irq(struct soft_cpu *cpu, unsigned vector)
{
    struct double_state *d = double_of(cpu);

    d->landing_set = true;
    if (setjmp(d->landing) == 0)
        soft_deliver_irq(cpu, vector);
    else if (!d->shutdown) /* a second raise lands here again */
        soft_deliver_exception(cpu);
    d->landing_set = false;
    return !d->shutdown;
}
