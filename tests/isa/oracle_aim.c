// SPDX-License-Identifier: Apache-2.0
/* Registers and memory around an encoding: operands where they are wanted, values that matter. */
#include <string.h>

#include "oracle_gen_priv.h"

enum { AX, CX, DX, BX, SP, BP, SI, DI };

static void patch(struct gen *g, uint64_t va, const void *bytes, unsigned len)
{
    struct oc_case *c = g->c;
    if (c->n_patches == OC_MAX_PATCHES || g->pool + len > OC_POOL) {
        return;
    }
    c->patch[c->n_patches++] =
        (struct oc_patch){.va = va, .len = (uint16_t)len, .at = (uint16_t)g->pool};
    memcpy(c->pool + g->pool, bytes, len);
    g->pool += len;
}

/* Fresh values at an operand. */
static void patch_random(struct gen *g, uint64_t va, unsigned len)
{
    uint8_t v[64];
    for (unsigned i = 0; i < 64; i += 16) {
        gen_value(g, v + i);
    }
    patch(g, va, v, len < 64 ? len : 64);
}

static uint64_t segment_base(const struct insn *i)
{
    return i->seg == 4 ? OC_FS_BASE : i->seg == 5 ? OC_GS_BASE : 0;
}

/* A register that addresses memory by itself. */
static void aim_reg(struct gen *g, const struct insn *i, unsigned reg, uint64_t linear)
{
    uint64_t v = linear - segment_base(i);
    if (i->addr32) {
        v = (uint32_t)v | (gen_pick(g, 2) ? gen_rnd(g) << 32 : 0);
    }
    g->c->gpr[reg] = v;
}

static bool is_anchor(const struct gen *g, unsigned reg)
{
    return g->sequence && (reg == g->anchor[0] || reg == g->anchor[1] || reg == g->anchor[2]);
}

/* Put the memory operand at the target by a register or the displacement; as well as possible. */
static void aim_modrm(struct gen *g, struct insn *i, uint8_t *b, uint64_t rip, uint64_t target)
{
    uint64_t *gpr = g->c->gpr;
    uint64_t want = target - segment_base(i);
    bool by_disp = i->base == INSN_REG_RIP || (i->base == INSN_NO_REG && i->index == INSN_NO_REG) ||
                   is_anchor(g, i->base);
    if (by_disp && i->disp_size == 4) {
        uint64_t base = i->base == INSN_REG_RIP  ? rip + i->len
                        : i->base == INSN_NO_REG ? 0
                                                 : gpr[i->base];
        uint32_t disp = (uint32_t)(want - base);
        memcpy(b + i->disp_off, &disp, 4);
        insn_decode(b, i->len, i);
        return;
    }
    if (by_disp) {
        return;
    }
    uint64_t left = want - (uint64_t)(int64_t)i->disp;
    if (i->base == INSN_NO_REG) {
        gpr[i->index] = left >> i->scale;
    } else if (i->base == i->index) {
        gpr[i->base] = left / ((1u << i->scale) + 1);
    } else {
        if (i->index != INSN_NO_REG && gen_pick(g, 2)) {
            gpr[i->index] = gen_int(g);
        }
        gpr[i->base] = left - (i->index == INSN_NO_REG ? 0 : gpr[i->index] << i->scale);
    }
    unsigned reg = i->base == INSN_NO_REG ? i->index : i->base;
    if (i->addr32 && i->scale == 0) {
        gpr[reg] = (uint32_t)gpr[reg] | (gen_pick(g, 2) ? gen_rnd(g) << 32 : 0);
    }
}

/* Where an indirect branch goes: never to its own code. */
static uint64_t branch_target(struct gen *g)
{
    unsigned page = g->code - OC_CODE < OC_PAGE ? 1 : 0;
    switch (gen_pick(g, 8)) {
    case 0:
        return OC_DATA + gen_pick(g, 2 * OC_PAGE);
    case 1:
        return gen_rnd(g) | 1ull << 62;
    case 2:
        return gen_pick(g, 2) ? 0x800000000000ull : 0xffff7fffffffffffull;
    case 3:
        return OC_END + gen_pick(g, OC_PAGE);
    default:
        return OC_CODE + page * OC_PAGE + 512 + gen_pick(g, OC_PAGE - 1024);
    }
}

static void aim_string(struct gen *g, const struct insn *i)
{
    uint64_t *gpr = g->c->gpr;
    unsigned size = i->opsize;
    uint64_t di = gen_target(g, size), si = gen_target(g, size);
    uint8_t same[64];
    for (unsigned k = 0; k < 64; k++) { /* equal to AL..RAX, then not */
        same[k] = gen_pick(g, 100) ? (uint8_t)(gpr[AX] >> k % size * 8) : (uint8_t)gen_rnd(g);
    }
    bool down = g->c->rflags & GEN_DF;
    if (i->desc->id == I_CMPS || i->desc->id == I_SCAS) {
        patch(g, down ? di - 64 + size : di, same, 64);
        if (i->desc->id == I_CMPS) {
            same[gen_pick(g, 64)] ^= gen_pick(g, 2);
            patch(g, down ? si - 64 + size : si, same, 64);
        }
    }
    if (gen_pick(g, 6) == 0) { /* overlapping */
        si = di + gen_pick(g, 33) - 16;
    }
    struct insn plain = *i;
    plain.seg = INSN_NO_SEG;
    aim_reg(g, &plain, DI, di);
    aim_reg(g, i, SI, si);
    switch (gen_pick(g, 8)) {
    case 0:
        gpr[CX] = 0;
        break;
    case 1:
        gpr[CX] = gen_pick(g, 5000);
        break;
    case 2:
        gpr[CX] = gen_pick(g, 4) ? gpr[CX] : gen_pick(g, 10);
        break;
    default:
        gpr[CX] = gen_pick(g, 40);
        break;
    }
    if (i->addr32 && gen_pick(g, 2)) {
        gpr[CX] |= gen_rnd(g) << 32;
    }
}

/* Gathers: indices that stay near the target, and now and then do not. */
static void aim_indices(struct gen *g, const struct insn *i)
{
    bool wide = i->bytes[i->modrm_off - 1] & 1;
    unsigned step = wide ? 8 : 4;
    for (unsigned k = 0; k < 16; k += step) {
        for (unsigned half = 0; half < 2; half++) {
            uint8_t *at = (half ? g->c->ymm : g->c->fx + 160) + 16 * i->index + k;
            int64_t v = (int64_t)gen_pick(g, 64) - 32;
            if (gen_pick(g, 24) == 0) {
                v = (int64_t)gen_int(g);
            }
            memcpy(at, &v, step);
        }
    }
}

/* No component that the guest has not, mostly; and an image that XRSTOR takes, mostly. */
static void tune_xsave(struct gen *g, const struct insn *i, uint64_t ea)
{
    uint8_t header[64] = {0}, fx[512];
    uint64_t *gpr = g->c->gpr;
    gpr[AX] = (gpr[AX] & ~0xffffffffull) | gen_pick(g, 8);
    gpr[DX] = gen_pick(g, 2) ? 0 : gpr[DX] & ~0xffffffffull;
    header[0] = (uint8_t)gen_pick(g, 8);
    if (gen_pick(g, 8) == 0) {
        header[gen_pick(g, 24)] |= (uint8_t)(1u << gen_pick(g, 8));
        header[0] &= 0x1f;  /* not the other components of the host */
        header[15] &= 0x7f; /* nor its compact format */
    }
    if (i->desc->id != I_XRSTOR || gen_pick(g, 8)) {
        patch(g, ea + 512, header, 64);
    }
    gen_fx(g, fx);
    patch(g, ea, fx, 160);
    if (i->desc->id == I_XRSTOR) { /* as for FXRSTOR below */
        patch(g, ea + 26, "\0", 1);
    }
}

/* Values that let the instruction do something else than its commonest outcome. */
static void tune(struct gen *g, const struct insn *i, uint64_t ea)
{
    uint64_t *gpr = g->c->gpr;
    uint8_t fx[512];
    uint64_t v;
    switch (i->desc->id) {
    case I_XLAT:
        v = gen_target(g, 1);
        aim_reg(g, i, BX, v - (gpr[AX] & 0xff));
        break;
    case I_BT ... I_BTC:
        if (i->is_mem && i->desc->op[1] == O_G && i->reg != i->base && i->reg != i->index) {
            gpr[i->reg] = (uint64_t)(int64_t)((int)gen_pick(g, 2048) - 1024);
        }
        break;
    case I_SHLD:
    case I_SHRD:
        if (i->opsize == 2 && i->desc->op[2] == O_CL) { /* by more than 16 it is undefined */
            gpr[CX] = (gpr[CX] & ~31ull) | gen_pick(g, 17);
        }
        break;
    case I_DIV:
    case I_IDIV:
        if (gen_pick(g, 3)) {
            bool byte = i->opsize == 1;
            uint64_t small = gen_pick(g, 2) ? gen_pick(g, 4) : 0ull - gen_pick(g, 2);
            gpr[byte ? AX : DX] = byte ? (gen_int(g) & 0x0fff) : small;
        }
        break;
    case I_CMPXCHG:
        if (gen_pick(g, 2) && i->is_mem) {
            patch(g, ea, &gpr[AX], i->opsize);
        } else if (!i->is_mem && gen_pick(g, 2) && i->opsize > 1) {
            gpr[i->rm] = gpr[AX];
        }
        break;
    case I_CMPXCHG8B:
        if (gen_pick(g, 2)) {
            v = (uint32_t)gpr[AX] | gpr[DX] << 32;
            patch(g, ea, &v, 8);
        }
        break;
    case I_CMPXCHG16B:
        if (gen_pick(g, 2)) {
            patch(g, ea, &gpr[AX], 8);
            patch(g, ea + 8, &gpr[DX], 8);
        }
        break;
    case I_JMP_RM:
    case I_CALL_RM:
        v = branch_target(g);
        if (i->is_mem) {
            patch(g, ea, &v, 8);
        } else {
            gpr[i->rm] = v;
        }
        break;
    case I_LOOPNE ... I_JRCXZ:
        gpr[CX] = gen_pick(g, 3) | (gen_pick(g, 2) ? gen_rnd(g) << 32 : 0);
        break;
    case I_VGATHER:
        aim_indices(g, i);
        break;
    case I_XSAVE:
    case I_XSAVEOPT:
    case I_XRSTOR:
        tune_xsave(g, i, ea);
        break;
    case I_FXRSTOR:
        gen_fx(g, fx);
        patch(g, ea, fx, 512);
        break;
    case I_LDMXCSR:
        gen_fx(g, fx);
        patch(g, ea, fx + 24, 4);
        break;
    default:
        break;
    }
    if (i->desc->id == I_FXRSTOR || i->desc->id == I_LDMXCSR) {
        /* MXCSR bit 17 is valid on AMD hosts, never in the guest; patched last so that it holds */
        uint64_t at = ea + (i->desc->id == I_FXRSTOR ? 26 : 2);
        patch(g, at, "\0", 1);
    }
}

static void aim_stack(struct gen *g, const struct insn *i)
{
    uint64_t sp = gen_target(g, 8);
    if (gen_pick(g, 3)) {
        sp &= ~7ull;
    }
    switch (i->desc->id) {
    case I_ENTER:
        g->c->gpr[BP] = gen_target(g, 8);
        break;
    case I_LEAVE:
        g->c->gpr[BP] = sp;
        return;
    case I_RET:
        if (gen_pick(g, 8)) {
            uint64_t to = branch_target(g);
            patch(g, sp, &to, 8);
        }
        break;
    case I_PUSH:
    case I_POP:
    case I_CALL:
    case I_CALL_RM:
    case I_PUSHF:
    case I_POPF:
    case I_PUSH_SREG:
        break;
    default:
        return;
    }
    g->c->gpr[SP] = sp;
}

void gen_aim(struct gen *g, struct insn *i, uint8_t *b, uint64_t rip)
{
    unsigned size = i->mem_size ? i->mem_size : i->opsize ? i->opsize : 1;
    uint64_t ea = gen_target(g, size);
    if (gen_is_string(i->desc)) {
        if (!g->sequence || gen_pick(g, 2)) {
            aim_string(g, i);
        }
        return;
    }
    if (!g->sequence) {
        aim_stack(g, i);
    }
    if (i->desc->id == I_MASKMOV) {
        aim_reg(g, i, DI, ea);
    } else if (i->desc->op[0] == O_O || i->desc->op[1] == O_O) {
        uint64_t off = ea - segment_base(i);
        memcpy(b + i->disp_off, &off, i->disp_size);
        insn_decode(b, i->len, i);
    } else if (i->desc->id == I_VGATHER) {
        struct insn scalar = *i;
        scalar.index = INSN_NO_REG;
        aim_modrm(g, &scalar, b, rip, ea);
        insn_decode(b, i->len, i);
    } else if (i->is_mem) {
        aim_modrm(g, i, b, rip, ea);
    }
    if (i->is_mem && gen_pick(g, 2)) {
        patch_random(g, ea, size);
    }
    tune(g, i, ea);
}
