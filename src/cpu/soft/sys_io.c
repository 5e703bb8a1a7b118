/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Port I/O with its permission checks. Devices run host code, so the guest's FP state leaves the
 * host registers around each access. A REP instruction does a bounded number of items and then
 * leaves RIP at itself, so that interrupts get in.
 */
#include "cpu/soft/breakpoint.h"
#include "cpu/soft/legacy.h"
#include "cpu/soft/sys.h"
#include "cpu/soft/trace.h"
#include "hw/bus.h"

#define IO_CHUNK 64 /* items of a REP per go */

static uint64_t port_read(struct soft_cpu *cpu, unsigned port, unsigned size)
{
    uint64_t value;

    soft_fp_leave(cpu);
    value = bus_read(soft_pio(cpu), port, size);
    trace(cpu, ENGINE_TRACE_EXITS, TRACE_IN, port, size, value);
    soft_fp_enter(cpu);
    return value;
}

static void port_write(struct soft_cpu *cpu, unsigned port, unsigned size, uint64_t value)
{
    soft_fp_leave(cpu);
    trace(cpu, ENGINE_TRACE_EXITS, TRACE_OUT, port, size, value);
    bus_write(soft_pio(cpu), port, size, value);
    soft_fp_enter(cpu);
}

/* IOPL, then the bitmap in the TSS (SDM vol. 1, 19.5.2). */
static void check_port(struct soft_cpu *cpu, unsigned port, unsigned size)
{
    const struct seg_state *tr = &cpu->seg[SEG_TR];
    uint64_t offset, bits;

    if (cpu->cpl <= sys_iopl(cpu))
        return;
    if (!(tr->attr & SA_P) || SA_TYPE(tr->attr) != ST_TSS_BUSY || tr->limit < 103)
        sys_gp(cpu);
    offset = soft_sys_load(cpu, tr->base + 102, 2) + port / 8;
    if (offset + 1 > tr->limit) /* two bytes are always read */
        sys_gp(cpu);
    bits = soft_sys_load(cpu, tr->base + offset, 2) >> (port & 7);
    if (bits & ((1u << size) - 1))
        sys_gp(cpu);
}

static uint64_t low_bytes(uint64_t value, unsigned size)
{
    return size == 8 ? value : value & ((1ull << (size * 8)) - 1);
}

static void in_out(struct soft_cpu *cpu, const struct insn *insn)
{
    const uint8_t *op = insn->desc->op;
    bool in = insn->desc->id == I_IN;
    unsigned size = insn->opsize;
    unsigned port = (unsigned)((in ? op[1] : op[0]) == O_DX ? cpu->gpr[R_DX] & 0xffff
                                                            : (uint64_t)insn->imm & 0xff);

    check_port(cpu, port, size);
    break_port(cpu, port, size);
    if (in)
        sys_write_reg(cpu, R_AX, size, port_read(cpu, port, size));
    else
        port_write(cpu, port, size, low_bytes(cpu->gpr[R_AX], size));
}

static uint64_t read_reg(const struct soft_cpu *cpu, const struct insn *insn, unsigned reg)
{
    uint64_t value = cpu->gpr[reg];

    return insn->addr16 ? (uint16_t)value : insn->addr32 ? (uint32_t)value : value;
}

static void advance(struct soft_cpu *cpu, const struct insn *insn, unsigned reg, uint64_t step)
{
    sys_write_reg(cpu, reg, insn->addr16 ? 2 : insn->addr32 ? 4 : 8, cpu->gpr[reg] + step);
}

static uint64_t string_va(struct soft_cpu *cpu, const struct insn *insn, bool in)
{
    uint64_t offset = read_reg(cpu, insn, in ? R_DI : R_SI);
    unsigned segment = in ? SEG_ES : insn->seg == INSN_NO_SEG ? SEG_DS : insn->seg;

    if (legacy_mode(cpu))
        return legacy_linear(cpu, segment, (uint32_t)offset, insn->opsize,
                             in ? ACC_WRITE : ACC_READ);
    return offset + (segment >= SEG_FS ? cpu->seg_base[segment] : 0);
}

static void string_item(struct soft_cpu *cpu, const struct insn *insn, unsigned port)
{
    unsigned size = insn->opsize;
    bool in = insn->desc->id == I_INS;
    uint64_t va = string_va(cpu, insn, in);
    uint64_t step = cpu->sys_flags & FL_DF ? 0 - (uint64_t)size : size;

    break_port(cpu, port, size);
    if (in) {
        /* Fault before the device is read: a read may have side effects. */
        soft_check_access(cpu, va, size, ACC_WRITE);
        soft_store(cpu, va, size, port_read(cpu, port, size));
    } else {
        port_write(cpu, port, size, soft_load(cpu, va, size));
    }
    advance(cpu, insn, in ? R_DI : R_SI, step);
}

static void string_io(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned port = cpu->gpr[R_DX] & 0xffff;
    unsigned left = cpu->mode & MODE_STEP ? 1 : IO_CHUNK; /* each is a step of its own */

    check_port(cpu, port, insn->opsize);
    if (insn->rep == REP_NONE) {
        string_item(cpu, insn, port);
        return;
    }
    for (;;) {
        if (read_reg(cpu, insn, R_CX) == 0)
            return;
        if (left-- == 0)
            break;
        string_item(cpu, insn, port);
        advance(cpu, insn, R_CX, ~0ull);
    }
    cpu->rip = cpu->insn_rip;
}

void sys_io(struct soft_cpu *cpu, const struct insn *insn)
{
    if (insn->desc->id == I_IN || insn->desc->id == I_OUT)
        in_out(cpu, insn);
    else
        string_io(cpu, insn);
}
