/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instructions that compute or move: each is emitted again with its guest registers replaced by
 * where they live, and its memory operand by the host address that the probe gave.
 */
#include "cpu/soft/native.h"
#include "cpu/soft/xlat.h"

/* What an instruction does with its ModRM operands. */
struct roles {
    bool reg;             /* ModRM.reg is a general register */
    bool reg_out, rm_out; /* it is written; ModRM.rm, as a register, is */
    bool rm;              /* ModRM.rm, in register form, is a general register */
    bool whole;           /* what is written is written as a whole: no need to load it */
    bool rm_slot;         /* as a source it may as well be read from memory */
    bool vvvv, vvvv_out;  /* VEX.vvvv is a general register; it is written, as a whole */
};

static bool has_operand(const struct insn *i, enum insn_operand kind)
{
    return i->desc->op[0] == kind || i->desc->op[1] == kind || i->desc->op[2] == kind;
}

static struct roles vector_roles(const struct insn_desc *d)
{
    struct roles r = {.reg = (d->attr & IA_GREG_DST) != 0,
                      .rm_out = (d->attr & IA_GRM_DST) != 0,
                      .rm_slot = (d->attr & IA_GRM_SRC) != 0,
                      .whole = true};
    r.reg_out = r.reg;
    r.rm = r.rm_out || r.rm_slot;
    return r;
}

static struct roles bmi_roles(const struct insn *i)
{
    struct roles r = {.reg = has_operand(i, O_G), .rm = true, .whole = true, .rm_slot = true};
    r.reg_out = r.reg;
    r.vvvv = has_operand(i, O_B);
    r.vvvv_out = i->desc->op[0] == O_B || i->desc->id == I_MULX;
    return r;
}

static struct roles roles_of(const struct insn *i)
{
    const struct insn_desc *d = i->desc;
    struct roles r = {0};
    if (d->id == I_SSE || d->id == I_AVX) {
        return vector_roles(d);
    }
    if (d->id >= I_ANDN && d->id <= I_MULX) {
        return bmi_roles(i);
    }
    bool compares = d->id == I_CMP || d->id == I_TEST || d->id == I_BT;
    bool both = d->id == I_XCHG || d->id == I_XADD;
    bool bits = d->id >= I_BT && d->id <= I_BTC;
    r.reg = d->op[0] == O_G || d->op[1] == O_G;
    r.reg_out = (d->op[0] == O_G && !compares) || both;
    r.rm = true;
    r.rm_out = (d->op[0] == O_E && !compares) || both;
    r.rm_slot = !r.rm_out && !bits;
    r.whole = (d->id == I_MOV || (d->id >= I_MOVZX && d->id <= I_MOVSXD)) && i->opsize >= 4;
    return r;
}

static bool only_carry(const struct xlat_insn *in)
{
    unsigned id = in->insn.desc->id;
    return (in->reads == IF_CF && in->writes == IF_ALL) || id == I_INC || id == I_DEC;
}

/* Do the guest's flags have to be in EFLAGS before it? */
static bool wants_flags(const struct xlat_insn *in)
{
    return in->reads != 0 || (in->save && in->writes != IF_ALL);
}

/* The instruction's own bytes, all but its operands. */
static struct host_insn same_insn(const struct insn *i)
{
    struct host_insn h = {.lock = i->lock,
                          .wide = (i->rex & 8) != 0,
                          .prefix = native_kept_prefix(i),
                          .reg = (i->bytes[i->modrm_off] >> 3) & 7,
                          .n_imm = i->imm_size,
                          .imm = i->bytes + i->imm_off};
    if (i->vex_map != 0) {
        h.prefix = 0;
        h.vex_map = i->vex_map;
        h.vex_pp = i->vex_pp;
        h.vex_l = i->vex_l;
        h.vvvv = i->vvvv;
        h.opcode[h.n_opcode++] = i->bytes[i->modrm_off - 1];
        return h;
    }
    h.bytes = i->desc->id != I_SSE && (i->opsize == 1 || i->desc->mem_size == 1);
    for (unsigned k = i->opcode_off; k < i->modrm_off; k++) {
        h.opcode[h.n_opcode++] = i->bytes[k];
    }
    return h;
}

/* After execution: are all six flags of EFLAGS the guest's? What changes some of them leaves the
 * answer as it was, unless the rest was loaded for it. */
static void track_flags(struct xlat *x, const struct xlat_insn *in)
{
    unsigned id = in->insn.desc->id;
    if (in->writes == IF_ALL || ((id == I_INC || id == I_DEC) && wants_flags(in))) {
        x->flags_valid = true;
    }
    xlat_flags_done(x, in);
}

/* Before execution; clobbers RAX, or nothing when only the carry is wanted. */
static void need_flags(struct xlat *x, const struct xlat_insn *in)
{
    if (!wants_flags(in) || x->flags_valid) {
        return;
    }
    if (only_carry(in)) {
        xlat_load_carry(x);
    } else {
        xlat_load_flags(x);
    }
}

static void modrm_mem(struct xlat *x, const struct xlat_insn *in)
{
    const struct insn *i = &in->insn;
    struct roles r = roles_of(i);
    struct host_insn h = same_insn(i);
    uint32_t attr = i->desc->attr;
    unsigned at = H_AX, other = H_SI;
    xlat_address(x, in);
    xlat_probe(x, in, i->mem_size, (attr & IA_STORE) != 0, (attr & IA_ALIGN) != 0);
    if (wants_flags(in) && !only_carry(in)) {
        emit_rr64(&x->b, 0x8b, H_SI, H_AX);
        at = H_SI;
        other = H_AX;
    }
    need_flags(x, in);
    if (r.reg) {
        h.reg = (uint8_t)xlat_use(x, i->reg, other, !(r.reg_out && r.whole));
    } else if (has_operand(i, O_V)) {
        h.reg = i->reg;
    }
    if (r.vvvv) {
        h.vvvv = (uint8_t)xlat_use(x, i->vvvv, r.vvvv_out ? at : other, !r.vvvv_out);
    }
    h.is_mem = true;
    h.mem = host_at(at, 0);
    emit_insn(&x->b, &h);
    if (r.vvvv_out) { /* before the other: MULX may have one register twice */
        xlat_put(x, i->vvvv, h.vvvv);
    }
    if (r.reg_out) {
        xlat_put(x, i->reg, h.reg);
    }
    track_flags(x, in);
}

static void modrm_reg(struct xlat *x, const struct xlat_insn *in)
{
    const struct insn *i = &in->insn;
    struct roles r = roles_of(i);
    struct host_insn h = same_insn(i);
    need_flags(x, in);
    h.rm = i->rm;
    if (r.rm && r.rm_slot && xlat_home(i->rm) == H_NONE) {
        h.is_mem = true;
        h.mem = xlat_slot(i->rm);
    } else if (r.rm) {
        h.rm = (uint8_t)xlat_use(x, i->rm, H_AX, !(r.rm_out && r.whole));
    }
    if (r.reg) {
        h.reg = (uint8_t)xlat_use(x, i->reg, H_SI, !(r.reg_out && r.whole));
    } else if (has_operand(i, O_V)) {
        h.reg = i->reg;
    }
    if (r.vvvv) {
        h.vvvv = (uint8_t)xlat_use(x, i->vvvv, r.vvvv_out ? H_AX : H_SI, !r.vvvv_out);
    }
    emit_insn(&x->b, &h);
    if (r.vvvv_out) {
        xlat_put(x, i->vvvv, h.vvvv);
    }
    if (r.reg_out) {
        xlat_put(x, i->reg, h.reg);
    }
    if (r.rm_out) { /* the later one, where XADD has one register twice */
        xlat_put(x, i->rm, h.rm);
    }
    track_flags(x, in);
}

/* ADD AL, imm8 and its kind: as 80 /n, 81 /n, F6 /0, F7 /0. */
static void accumulator(struct xlat *x, const struct xlat_insn *in)
{
    const struct insn *i = &in->insn;
    bool test = i->desc->id == I_TEST;
    struct host_insn h = {.prefix = i->opsize == 2 ? 0x66 : 0,
                          .wide = i->opsize == 8,
                          .bytes = i->opsize == 1,
                          .n_opcode = 1,
                          .reg = test ? 0 : (uint8_t)(i->desc->id - I_ADD),
                          .rm = (uint8_t)xlat_home(R_AX),
                          .n_imm = i->imm_size,
                          .imm = i->bytes + i->imm_off};
    h.opcode[0] = (uint8_t)((test ? 0xf6 : 0x80) + (i->opsize != 1));
    need_flags(x, in);
    emit_insn(&x->b, &h);
    track_flags(x, in);
}

static void move_immediate(struct xlat *x, const struct insn *i)
{
    uint64_t v = i->opsize == 8 ? (uint64_t)i->imm : (uint32_t)i->imm;
    unsigned to = xlat_use(x, i->rm, H_AX, false);
    emit_mov_imm(&x->b, to, v);
    xlat_put(x, i->rm, to);
}

static void lea(struct xlat *x, const struct xlat_insn *in)
{
    const struct insn *i = &in->insn;
    unsigned to = xlat_use(x, i->reg, H_AX, false);
    struct host_mem m = {H_NONE, H_NONE, i->scale, i->disp};
    if (i->base == INSN_REG_RIP) {
        uint64_t va = (uint64_t)(int64_t)i->disp + in->next_rip;
        emit_mov_imm(&x->b, to, i->opsize == 8 ? va : (uint32_t)va);
        xlat_put(x, i->reg, to);
        return;
    }
    if (i->base != INSN_NO_REG) {
        m.base = (uint8_t)xlat_use(x, i->base, H_AX, true);
    }
    if (i->index != INSN_NO_REG) {
        m.index = (uint8_t)xlat_use(x, i->index, H_SI, true);
    }
    (i->opsize == 8 ? emit_rm64 : emit_rm32)(&x->b, 0x8d, to, m);
    xlat_put(x, i->reg, to);
}

static void byte_swap(struct xlat *x, const struct insn *i)
{
    unsigned reg = xlat_use(x, i->rm, H_AX, true);
    unsigned rex = (i->opsize == 8 ? 8u : 0) | (reg & 8u ? 1u : 0);
    if (rex != 0) {
        emit8(&x->b, (uint8_t)(0x40 | rex));
    }
    emit8(&x->b, 0x0f);
    emit8(&x->b, (uint8_t)(0xc8 | (reg & 7u)));
    xlat_put(x, i->rm, reg);
}

static void convert(struct xlat *x, const struct insn *i)
{
    unsigned ax = xlat_home(R_AX);
    if (i->desc->id == I_CWD) { /* RDX is at home */
        emit_rr64(&x->b, 0x8b, H_AX, ax);
        if (i->opsize == 8) {
            emit8(&x->b, 0x48);
        }
        emit8(&x->b, 0x99); /* cdq, cqo */
    } else if (i->opsize == 8) {
        emit_rr64(&x->b, 0x63, ax, ax); /* movsxd */
    } else {
        emit_rr32(&x->b, 0x0fbf, ax, ax); /* movsx r32, r16 */
    }
}

static void multiply(struct xlat *x, const struct xlat_insn *in)
{
    const struct insn *i = &in->insn;
    unsigned by, ext = i->desc->id == I_MUL ? 4 : 5;
    if (i->is_mem) {
        xlat_address(x, in);
        xlat_probe(x, in, i->mem_size, false, false);
        (i->opsize == 8 ? emit_rm64 : emit_rm32)(&x->b, 0x8b, H_SI, host_at(H_AX, 0));
        by = H_SI;
    } else {
        by = xlat_use(x, i->rm, H_SI, true);
    }
    emit_rr64(&x->b, 0x8b, H_AX, xlat_home(R_AX));
    (i->opsize == 8 ? emit_rr64 : emit_rr32)(&x->b, 0xf7, ext, by);
    xlat_put(x, R_AX, H_AX);
    track_flags(x, in);
}

static void compare_exchange(struct xlat *x, const struct xlat_insn *in)
{
    const struct insn *i = &in->insn;
    struct host_insn h = same_insn(i);
    xlat_address(x, in);
    xlat_probe(x, in, i->mem_size, true, false);
    emit_rr64(&x->b, 0x8b, H_SI, H_AX);
    emit_rr64(&x->b, 0x8b, H_AX, xlat_home(R_AX));
    h.reg = (uint8_t)xlat_home(i->reg);
    h.is_mem = true;
    h.mem = host_at(H_SI, 0);
    emit_insn(&x->b, &h);
    xlat_put(x, R_AX, H_AX);
    track_flags(x, in);
}

void xlat_int(struct xlat *x, const struct xlat_insn *in)
{
    switch (in->kind) {
    case XK_MODRM:
        (in->insn.is_mem ? modrm_mem : modrm_reg)(x, in);
        break;
    case XK_AS_IS:
        emit_bytes(&x->b, (const char *)in->insn.bytes, in->insn.len);
        break;
    case XK_ACC:
        accumulator(x, in);
        break;
    case XK_MOVI:
        move_immediate(x, &in->insn);
        break;
    case XK_LEA:
        lea(x, in);
        break;
    case XK_BSWAP:
        byte_swap(x, &in->insn);
        break;
    case XK_CONVERT:
        convert(x, &in->insn);
        break;
    case XK_MUL:
        multiply(x, in);
        break;
    case XK_CMPXCHG:
        compare_exchange(x, in);
        break;
    default:
        break;
    }
}
