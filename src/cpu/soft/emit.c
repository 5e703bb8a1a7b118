/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/soft/emit.h"

void emit8(struct emit_buf *b, uint8_t v)
{
    if (b->at == b->end) {
        b->full = true;
        return;
    }
    *b->at++ = v;
}

void emit32(struct emit_buf *b, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++) {
        emit8(b, (uint8_t)(v >> (8 * i)));
    }
}

void emit_bytes(struct emit_buf *b, const char *bytes, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        emit8(b, (uint8_t)bytes[i]);
    }
}

static bool is_byte(int32_t v)
{
    return v >= -128 && v <= 127;
}

/* ModRM, SIB and displacement of a memory operand. */
static void put_mem(struct emit_buf *b, unsigned reg, const struct host_mem *m)
{
    unsigned base = m->base & 7u, r = (reg & 7u) << 3;
    if (m->base == H_NONE) { /* SIB without base: always disp32 */
        unsigned index = m->index == H_NONE ? 4u : m->index & 7u;
        emit8(b, (uint8_t)(r | 4));
        emit8(b, (uint8_t)(m->scale << 6 | index << 3 | 5));
        emit32(b, (uint32_t)m->disp);
        return;
    }
    unsigned mod = m->disp == 0 && base != 5 ? 0u : is_byte(m->disp) ? 1u : 2u;
    if (m->index != H_NONE || base == 4) {
        unsigned index = m->index == H_NONE ? 4u : m->index & 7u;
        emit8(b, (uint8_t)(mod << 6 | r | 4));
        emit8(b, (uint8_t)(m->scale << 6 | index << 3 | base));
    } else {
        emit8(b, (uint8_t)(mod << 6 | r | base));
    }
    if (mod == 1) {
        emit8(b, (uint8_t)m->disp);
    } else if (mod == 2) {
        emit32(b, (uint32_t)m->disp);
    }
}

static unsigned high_bit(unsigned reg, unsigned rex_bit)
{
    return reg != H_NONE && (reg & 8u) != 0 ? rex_bit : 0;
}

/* The bits W R X B. */
static unsigned rex_bits(const struct host_insn *i)
{
    unsigned rex = (i->wide ? 8u : 0) | high_bit(i->reg, 4);
    if (i->is_mem) {
        return rex | high_bit(i->mem.index, 2) | high_bit(i->mem.base, 1);
    }
    return rex | high_bit(i->rm, 1);
}

/* The form of two bytes has neither W, X, B nor a map but 0F. */
static void put_vex(struct emit_buf *b, const struct host_insn *i)
{
    unsigned rex = rex_bits(i), tail = (~i->vvvv & 15u) << 3 | i->vex_l << 2 | i->vex_pp;
    if (i->vex_map == 1 && (rex & 11) == 0) {
        emit8(b, 0xc5);
        emit8(b, (uint8_t)((~rex & 4) << 5 | tail));
        return;
    }
    emit8(b, 0xc4);
    emit8(b, (uint8_t)((~rex & 7) << 5 | i->vex_map));
    emit8(b, (uint8_t)((rex & 8) << 4 | tail));
}

static void put_prefixes(struct emit_buf *b, const struct host_insn *i)
{
    unsigned rex = rex_bits(i);
    if (i->lock) {
        emit8(b, 0xf0);
    }
    if (i->prefix != 0) {
        emit8(b, i->prefix);
    }
    if (rex != 0 || i->bytes) {
        emit8(b, (uint8_t)(0x40 | rex));
    }
}

void emit_insn(struct emit_buf *b, const struct host_insn *i)
{
    if (i->vex_map != 0) {
        put_vex(b, i);
    } else {
        put_prefixes(b, i);
    }
    for (unsigned k = 0; k < i->n_opcode; k++) {
        emit8(b, i->opcode[k]);
    }
    if (i->is_mem) {
        put_mem(b, i->reg, &i->mem);
    } else {
        emit8(b, (uint8_t)(0xc0 | (i->reg & 7u) << 3 | (i->rm & 7u)));
    }
    for (unsigned k = 0; k < i->n_imm; k++) {
        emit8(b, i->imm[k]);
    }
}

static struct host_insn plain(unsigned opcode, unsigned reg, bool wide)
{
    struct host_insn i = {.reg = (uint8_t)reg, .wide = wide};
    if (opcode > 0xff) {
        i.opcode[i.n_opcode++] = (uint8_t)(opcode >> 8);
    }
    i.opcode[i.n_opcode++] = (uint8_t)opcode;
    return i;
}

static void put_rm(struct emit_buf *b, unsigned opcode, unsigned reg, struct host_mem mem,
                   bool wide)
{
    struct host_insn i = plain(opcode, reg, wide);
    i.is_mem = true;
    i.mem = mem;
    emit_insn(b, &i);
}

void emit_rm64(struct emit_buf *b, unsigned opcode, unsigned reg, struct host_mem mem)
{
    put_rm(b, opcode, reg, mem, true);
}

void emit_rm32(struct emit_buf *b, unsigned opcode, unsigned reg, struct host_mem mem)
{
    put_rm(b, opcode, reg, mem, false);
}

static void put_rr(struct emit_buf *b, unsigned opcode, unsigned reg, unsigned rm, bool wide)
{
    struct host_insn i = plain(opcode, reg, wide);
    i.rm = (uint8_t)rm;
    emit_insn(b, &i);
}

void emit_rr64(struct emit_buf *b, unsigned opcode, unsigned reg, unsigned rm)
{
    put_rr(b, opcode, reg, rm, true);
}

void emit_rr32(struct emit_buf *b, unsigned opcode, unsigned reg, unsigned rm)
{
    put_rr(b, opcode, reg, rm, false);
}

void emit_mov_imm(struct emit_buf *b, unsigned reg, uint64_t v)
{
    bool sign = (uint64_t)(int64_t)(int32_t)v == v;
    if (v <= UINT32_MAX) { /* mov r32, imm32 */
        if (reg & 8u) {
            emit8(b, 0x41);
        }
        emit8(b, (uint8_t)(0xb8 | (reg & 7u)));
        emit32(b, (uint32_t)v);
    } else if (sign) { /* mov r64, simm32 */
        emit_rr64(b, 0xc7, 0, reg);
        emit32(b, (uint32_t)v);
    } else { /* mov r64, imm64 */
        emit8(b, (uint8_t)(0x48 | (reg & 8u ? 1 : 0)));
        emit8(b, (uint8_t)(0xb8 | (reg & 7u)));
        emit32(b, (uint32_t)v);
        emit32(b, (uint32_t)(v >> 32));
    }
}

uint8_t *emit_jcc(struct emit_buf *b, unsigned cond)
{
    emit8(b, 0x0f);
    emit8(b, (uint8_t)(0x80 | cond));
    emit32(b, 0);
    return b->at - 4;
}

static void put_displacement(uint8_t *at, int64_t d)
{
    for (unsigned i = 0; i < 4; i++) {
        at[i] = (uint8_t)((uint64_t)d >> (8 * i));
    }
}

void emit_jmp_to(struct emit_buf *b, const uint8_t *target)
{
    emit8(b, 0xe9);
    emit32(b, 0);
    if (!b->full) {
        put_displacement(b->at - 4, target - emit_here(b));
    }
}

void emit_land(struct emit_buf *b, uint8_t *from)
{
    if (!b->full) {
        put_displacement(from, b->at - (from + 4));
    }
}
