/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of translated instructions: registers, addresses, TLB probes, flags. */
#include "cpu/soft/lift_mem.h"
#include "cpu/soft/xlat.h"

/* Guest registers keep their numbers where they can: RCX must, for shift counts. */
static const uint8_t homes[16] = {H_R8,   H_CX,   H_DX,   H_BX,   H_R9, H_BP, H_R10, H_R11,
                                  H_NONE, H_NONE, H_NONE, H_NONE, 12,   13,   14,    15};

unsigned xlat_home(unsigned gpr)
{
    return homes[gpr];
}

struct host_mem xlat_slot(unsigned gpr)
{
    return host_at(H_DI, (uint32_t)offsetof(struct soft_cpu, gpr) + gpr * 8);
}

unsigned xlat_use(struct xlat *x, unsigned gpr, unsigned scratch, bool load)
{
    if (homes[gpr] != H_NONE) {
        return homes[gpr];
    }
    if (load) {
        emit_rm64(&x->b, 0x8b, scratch, xlat_slot(gpr));
    }
    return scratch;
}

void xlat_put(struct xlat *x, unsigned gpr, unsigned reg)
{
    if (homes[gpr] == H_NONE) {
        emit_rm64(&x->b, 0x89, reg, xlat_slot(gpr));
    } else if (homes[gpr] != reg) {
        emit_rr64(&x->b, 0x8b, homes[gpr], reg);
    }
}

static void add_segment(struct xlat *x, const struct insn *i)
{
    if (i->seg != INSN_NO_SEG) { /* add rax, [rdi + seg_base] */
        emit_rm64(&x->b, 0x03, H_AX,
                  host_at(H_DI, (uint32_t)offsetof(struct soft_cpu, seg_base) + 8u * (i->seg & 7)));
    }
}

void xlat_address(struct xlat *x, const struct xlat_insn *in)
{
    const struct insn *i = &in->insn;
    struct host_mem m = {H_NONE, H_NONE, i->scale, i->disp};
    if (i->base == INSN_REG_RIP || (i->base == INSN_NO_REG && i->index == INSN_NO_REG)) {
        uint64_t va = (uint64_t)(int64_t)i->disp;
        emit_mov_imm(&x->b, H_AX, i->base == INSN_REG_RIP ? va + in->next_rip : va);
        add_segment(x, i);
        return;
    }
    if (i->base != INSN_NO_REG) {
        m.base = (uint8_t)xlat_use(x, i->base, H_AX, true);
    }
    if (i->index != INSN_NO_REG) {
        m.index = (uint8_t)xlat_use(x, i->index, H_SI, true);
    }
    if (m.index != H_NONE || m.disp != 0) {
        emit_rm64(&x->b, 0x8d, H_AX, m);
    } else if (m.base != H_AX) {
        emit_rr64(&x->b, 0x8b, H_AX, m.base);
    }
    add_segment(x, i);
}

void xlat_probe(struct xlat *x, const struct xlat_insn *in, unsigned size, bool store, bool align)
{
    struct emit_buf *b = &x->b;
    bool user = (x->block->mode & MODE_USER) != 0;
    uint32_t table =
        (uint32_t)(offsetof(struct soft_cpu, tlb) +
                   (2u * user + store) * SOFT_TLB_SIZE * sizeof(struct soft_tlb_entry));
    struct host_mem entry = {H_DI, H_SI, 0, (int32_t)table};
    emit_rr32(b, 0x8b, H_SI, H_AX);
    EMIT(b, "\xc1\xee\x08\x81\xe6"); /* shr esi, 8; and esi, imm32 */
    emit32(b, (SOFT_TLB_SIZE - 1) * (uint32_t)sizeof(struct soft_tlb_entry));
    emit_rm64(b, 0x2b, H_AX, entry); /* sub rax, tag: the offset in the page on a hit */
    if (align) {                     /* in the page, and aligned */
        EMIT(b, "\x48\xa9");         /* test rax, imm32 */
        emit32(b, 0xfffff000 | (size - 1));
        xlat_exit_if(x, 5, in->op);
    } else {
        EMIT(b, "\x48\x3d"); /* cmp rax, imm32 */
        emit32(b, 4096 - size);
        xlat_exit_if(x, 7, in->op);
    }
    entry.disp += (int32_t)offsetof(struct soft_tlb_entry, host);
    emit_rm64(b, 0x03, H_AX, entry);
    x->flags_valid = false;
}
_Static_assert(sizeof(struct soft_tlb_entry) == 16, "page number * 16 by one shift");
_Static_assert(offsetof(struct soft_tlb_entry, tag) == 0, "the probe knows the layout");

static struct host_mem flags_at(void)
{
    return host_at(H_DI, (uint32_t)offsetof(struct soft_cpu, flags));
}

void xlat_load_flags(struct xlat *x)
{
    emit_rm32(&x->b, 0x0fb7, H_AX, flags_at()); /* movzx eax, word [flags] */
    EMIT(&x->b, "\x04\x7f\x9e");                /* add al, 127: OF; sahf */
    x->flags_valid = true;
}

void xlat_load_carry(struct xlat *x)
{
    emit_rm32(&x->b, 0x0fba, 4, flags_at()); /* bt dword [flags], 8 */
    emit8(&x->b, 8);
    x->flags_valid = false;
}

void xlat_flags_done(struct xlat *x, const struct xlat_insn *in)
{
    if (in->changes == 0) {
        return;
    }
    if (in->save) {
        EMIT(&x->b, "\x9f\x0f\x90\xc0\x66"); /* lahf; seto al; mov [flags], ax */
        emit_rm32(&x->b, 0x89, H_AX, flags_at());
    }
}

void xlat_note_cold(struct xlat *x, uint8_t *from, unsigned op, unsigned what)
{
    if (x->n_cold == XLAT_MAX_COLD) {
        x->b.full = true;
        return;
    }
    x->cold[x->n_cold++] =
        (struct xlat_cold){.from = from, .op = (uint16_t)op, .what = (uint8_t)what};
}

void xlat_exit_if(struct xlat *x, unsigned cond, unsigned op)
{
    xlat_note_cold(x, emit_jcc(&x->b, cond), op, XC_OP);
}
