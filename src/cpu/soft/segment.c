/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segment descriptors and segment register loads in IA-32e mode. Descriptor tables are read with
 * supervisor rights; every check comes before the first change of state.
 */
#include "cpu/soft/segment.h"

#include "cpu/soft/legacy.h"
#include "cpu/soft/sys.h"

bool segment_read(struct soft_cpu *cpu, uint16_t selector, struct segment_desc *out)
{
    uint64_t base = cpu->gdt_base;
    uint64_t limit = cpu->gdt_limit;
    unsigned offset = selector & 0xfff8u;

    if (selector & 4) {
        const struct seg_state *ldt = &cpu->seg[SEG_LDTR];

        if (!(ldt->attr & SA_P))
            return false;
        base = ldt->base;
        limit = ldt->limit;
    }
    if (offset + 7u > limit)
        return false;
    out->va = base + offset;
    out->raw = soft_sys_load(cpu, out->va, 8);

    uint64_t raw = out->raw;
    uint32_t pages = (uint32_t)(raw & 0xffff) | (uint32_t)(raw >> 32 & 0xf0000);
    out->seg.selector = selector;
    out->seg.attr = (uint16_t)(raw >> 40 & 0xf0ff);
    out->seg.base = (raw >> 16 & 0xffffff) | (raw >> 32 & 0xff000000);
    out->seg.limit = out->seg.attr & SA_G ? pages << 12 | 0xfff : pages;
    return true;
}

bool segment_read_upper(struct soft_cpu *cpu, struct segment_desc *desc)
{
    uint16_t selector = desc->seg.selector;
    uint64_t limit = selector & 4 ? cpu->seg[SEG_LDTR].limit : cpu->gdt_limit;
    uint64_t upper;

    if (!(cpu->efer & EFER_LMA))
        return true; /* 8 bytes */
    if ((selector & 0xfff8u) + 15u > limit)
        return false;
    upper = soft_sys_load(cpu, desc->va + 8, 8);
    if (upper >> 40 & 0x1f)
        return false;
    desc->seg.base |= upper << 32;
    return true;
}

void segment_mark_accessed(struct soft_cpu *cpu, struct segment_desc *desc)
{
    if (desc->seg.attr & SA_ACCESSED)
        return;
    soft_sys_store(cpu, desc->va + 5, 1, (desc->raw >> 40 & 0xff) | SA_ACCESSED);
    desc->seg.attr |= SA_ACCESSED;
}

static void commit(struct soft_cpu *cpu, enum seg_index index, const struct seg_state *seg)
{
    cpu->seg[index] = *seg;
    if (index == SEG_FS || index == SEG_GS)
        cpu->seg_base[index] = seg->base;
    if (legacy_mode(cpu))
        soft_update_mode(cpu);
}

void segment_check_stack(struct soft_cpu *cpu, uint16_t selector, unsigned cpl, bool null_ok,
                         struct seg_state *out)
{
    struct segment_desc d;

    if (SEL_NULL(selector)) {
        if (!null_ok || SEL_RPL(selector) != cpl)
            soft_raise_code(cpu, V_GP, 0);
        /* Not present, but its DPL is what tells the CPL. */
        *out = (struct seg_state){.selector = selector, .attr = (uint16_t)SA_WITH_DPL(cpl)};
        return;
    }
    if (!segment_read(cpu, selector, &d))
        soft_raise_code(cpu, V_GP, SEL_ERR(selector));
    if (SEL_RPL(selector) != cpl || SA_DPL(d.seg.attr) != cpl ||
        (d.seg.attr & (SA_S | SA_CODE | SA_WRITE)) != (SA_S | SA_WRITE))
        soft_raise_code(cpu, V_GP, SEL_ERR(selector));
    if (!(d.seg.attr & SA_P))
        soft_raise_code(cpu, V_SS, SEL_ERR(selector));
    segment_mark_accessed(cpu, &d);
    *out = d.seg;
}

static void load_data(struct soft_cpu *cpu, enum seg_index index, uint16_t selector)
{
    struct segment_desc d;
    unsigned attr;

    if (SEL_NULL(selector)) {
        d.seg = (struct seg_state){.selector = selector};
        commit(cpu, index, &d.seg);
        return;
    }
    if (!segment_read(cpu, selector, &d))
        soft_raise_code(cpu, V_GP, SEL_ERR(selector));
    attr = d.seg.attr;
    if (!(attr & SA_S) || (attr & (SA_CODE | SA_WRITE)) == SA_CODE)
        soft_raise_code(cpu, V_GP, SEL_ERR(selector));
    if ((attr & (SA_CODE | SA_CONFORM)) != (SA_CODE | SA_CONFORM) &&
        (SA_DPL(attr) < cpu->cpl || SA_DPL(attr) < SEL_RPL(selector)))
        soft_raise_code(cpu, V_GP, SEL_ERR(selector));
    if (!(attr & SA_P))
        soft_raise_code(cpu, V_NP, SEL_ERR(selector));
    segment_mark_accessed(cpu, &d);
    commit(cpu, index, &d.seg);
}

void segment_load(struct soft_cpu *cpu, enum seg_index index, uint16_t selector)
{
    struct seg_state ss;

    if (legacy_real(cpu)) { /* limit and rights stay as they are */
        ss = cpu->seg[index];
        ss.selector = selector;
        ss.base = (uint32_t)selector << 4;
        commit(cpu, index, &ss);
        return;
    }
    if (index != SEG_SS) {
        load_data(cpu, index, selector);
        return;
    }
    segment_check_stack(cpu, selector, cpu->cpl, cpu->cpl != 3 && !legacy_mode(cpu), &ss);
    commit(cpu, SEG_SS, &ss);
}

void segment_set_real_code(struct soft_cpu *cpu, uint16_t selector)
{
    cpu->seg[SEG_CS] = (struct seg_state){
        .base = (uint32_t)selector << 4,
        .limit = 0xffff,
        .selector = selector,
        .attr = SA_P | SA_S | SA_CODE | SA_WRITE | SA_ACCESSED,
    };
}

void segment_drop_inner(struct soft_cpu *cpu, unsigned cpl)
{
    static const uint8_t data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};

    for (unsigned i = 0; i < sizeof data; i++) {
        struct seg_state *s = &cpu->seg[data[i]];

        if (!(s->attr & SA_P) || (s->attr & (SA_CODE | SA_CONFORM)) == (SA_CODE | SA_CONFORM) ||
            SA_DPL(s->attr) >= cpl)
            continue;
        /* The bases stay: 64-bit kernels set FS and GS bases by MSR, whatever the selector. */
        s->selector = 0;
        s->attr = 0;
        s->limit = 0;
    }
}

void segment_set_flat(struct soft_cpu *cpu, uint16_t cs, uint16_t ss, unsigned dpl, bool long_mode)
{
    cpu->seg[SEG_CS] = (struct seg_state){
        .limit = 0xffffffff,
        .selector = cs,
        .attr = (uint16_t)(SA_G | (long_mode ? SA_L : SA_DB) | SA_P | SA_WITH_DPL(dpl) | SA_S |
                           SA_CODE | SA_WRITE | SA_ACCESSED),
    };
    cpu->seg[SEG_SS] = (struct seg_state){
        .limit = 0xffffffff,
        .selector = ss,
        .attr = (uint16_t)(SA_G | SA_DB | SA_P | SA_WITH_DPL(dpl) | SA_S | SA_WRITE | SA_ACCESSED),
    };
}
