/* SPDX-License-Identifier: Apache-2.0 */
/* What the translator does with an instruction. Whatever is not known here stays interpreted. */
#include "cpu/soft/native.h"
#include "cpu/soft/xlat.h"

static bool has(const struct insn_desc *d, enum insn_operand kind)
{
    return d->op[0] == kind || d->op[1] == kind || d->op[2] == kind;
}

/* AH, CH, DH or BH: their homes have no such halves. */
static bool high_byte(const struct insn *i, unsigned reg)
{
    return !i->has_rex && reg >= 4 && reg < 8;
}

static bool byte_operand(const struct insn *i)
{
    return i->opsize == 1 || (i->desc->mem_size == 1 && has(i->desc, O_E));
}

static enum xlat_kind modrm(const struct insn *i)
{
    if (i->is_mem && i->addr32) {
        return XK_ISLAND;
    }
    if (i->opsize == 1 && has(i->desc, O_G) && high_byte(i, i->reg)) {
        return XK_ISLAND;
    }
    if (!i->is_mem && byte_operand(i) && high_byte(i, i->rm)) {
        return XK_ISLAND;
    }
    if (i->opsize == 2 && native_kept_prefix(i) != 0x66 && native_kept_prefix(i) != 0) {
        return XK_ISLAND; /* POPCNT, CRC32: two prefixes that both count */
    }
    return XK_MODRM;
}

static enum xlat_kind only(bool yes, enum xlat_kind kind)
{
    return yes ? kind : XK_ISLAND;
}

static enum xlat_kind sse(const struct insn *i, uint32_t mode)
{
    if ((mode & (MODE_FP_OFF | MODE_SSE_TRAP)) != 0 || (i->desc->attr & IA_RAXRDX_IN) != 0 ||
        (i->is_mem && i->addr32)) {
        return XK_ISLAND;
    }
    return XK_MODRM;
}

static enum xlat_kind avx(const struct insn *i, uint32_t mode)
{
    if ((mode & MODE_AVX_OFF) != 0) {
        return XK_ISLAND;
    }
    return i->has_modrm ? sse(i, mode) : only(sse(i, mode) == XK_MODRM, XK_AS_IS);
}

static enum xlat_kind kind_of(const struct insn *i, uint32_t mode, uint64_t features)
{
    const struct insn_desc *d = i->desc;
    bool wide = i->opsize >= 4, plain = !(i->is_mem && i->addr32);
    if ((features & INSN_FEATURE(d->feature)) == 0) {
        return XK_ISLAND; /* not what its bytes say */
    }
    switch (d->id) {
    case I_ADD ... I_CMP:
    case I_TEST:
        return d->op[0] == O_ACC ? XK_ACC : modrm(i);
    case I_MOV:
        if (d->op[0] == O_Z) {
            return only(wide, XK_MOVI);
        }
        return only(!has(d, O_O), modrm(i));
    case I_NOT ... I_DEC:
    case I_ROL ... I_SHRD:
    case I_BSF ... I_POPCNT:
    case I_TZCNT ... I_LZCNT:
    case I_MOVBE:
    case I_IMUL2 ... I_IMUL3:
    case I_MOVZX ... I_MOVSXD:
    case I_XADD:
    case I_MOVNTI:
    case I_CRC32:
    case I_SETCC ... I_CMOVCC:
        return modrm(i);
    case I_ANDN ... I_MULX:
        return only(plain, XK_MODRM);
    case I_XCHG:
        return only(has(d, O_E), modrm(i));
    case I_BT ... I_BTC: /* a register bit number reaches beyond a memory operand */
        return only(!(i->is_mem && d->op[1] == O_G), modrm(i));
    case I_CMPXCHG:
        return only(i->is_mem && xlat_home(i->reg) != H_NONE && modrm(i) == XK_MODRM, XK_CMPXCHG);
    case I_LEA:
        return only(wide && plain, XK_LEA);
    case I_BSWAP:
        return only(wide, XK_BSWAP);
    case I_CBW ... I_CWD:
        return only(wide, XK_CONVERT);
    case I_MUL ... I_IMUL1:
        return only(wide && plain, XK_MUL);
    case I_PUSH:
        return only(i->opsize == 8 && plain, XK_PUSH);
    case I_POP:
        return only(i->opsize == 8 && !i->is_mem && i->rm != R_SP, XK_POP);
    case I_LEAVE:
        return only(i->opsize == 8, XK_LEAVE);
    case I_JCC:
        return XK_JCC;
    case I_JMP:
        return XK_JMP;
    case I_CALL:
        return XK_CALL;
    case I_JMP_RM:
        return only(plain, XK_JMP_RM);
    case I_CALL_RM:
        return only(plain, XK_CALL_RM);
    case I_RET:
        return XK_RET;
    case I_NOP:
        return XK_SKIP;
    case I_SSE:
        return sse(i, mode);
    case I_AVX:
        return avx(i, mode);
    default:
        return XK_ISLAND;
    }
}

static bool may_exit(const struct insn *i, enum xlat_kind kind)
{
    switch (kind) {
    case XK_SKIP:
    case XK_AS_IS:
    case XK_MOVI:
    case XK_LEA:
    case XK_BSWAP:
    case XK_CONVERT:
    case XK_ACC:
        return false;
    case XK_MODRM:
    case XK_MUL:
        return i->is_mem;
    default:
        return true;
    }
}

/* Rotates and shifts: what they do to the flags depends on the count. */
static void shift_flags(struct xlat_insn *in)
{
    const struct insn *i = &in->insn;
    enum insn_operand count = i->desc->op[i->desc->op[2] == O_NONE ? 1 : 2];
    unsigned mask = i->opsize == 8 ? 63 : 31;
    bool rotate = i->desc->id <= I_RCR;
    bool fixed = count == O_1 || (count != O_CL && ((unsigned)i->imm & mask) != 0);
    in->reads = i->desc->id == I_RCL || i->desc->id == I_RCR ? IF_CF : 0;
    in->changes = rotate ? IF_CF | IF_OF : IF_ALL;
    if (!fixed || (rotate && i->opsize < 4)) {
        in->writes = 0; /* a count of 0, or of a whole turn */
    } else {
        in->writes = in->changes;
    }
}

void xlat_classify(struct xlat_insn *in, uint32_t mode, uint64_t features)
{
    const struct insn *i = &in->insn;
    in->kind = (uint8_t)kind_of(i, mode, features);
    in->exits = may_exit(i, in->kind);
    in->reads = i->desc->flags_read;
    in->writes = in->changes = i->desc->flags_written;
    if (in->kind == XK_ISLAND || in->kind == XK_SKIP) {
        in->writes = in->changes = 0;
    } else if (i->desc->id >= I_ROL && i->desc->id <= I_SHRD) {
        shift_flags(in);
    }
}
