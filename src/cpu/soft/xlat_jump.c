/* SPDX-License-Identifier: Apache-2.0 */
/* Stack, jumps, calls, returns, and the ways from block to block, in translated code. */
#include "cpu/soft/ops.h"
#include "cpu/soft/xlat.h"

#define FIELD(f) host_at(H_DI, (uint32_t)offsetof(struct soft_cpu, f))

/* As must_stop(): to the interpreter at op when the run loop has something to do. */
static void look_around(struct xlat *x, unsigned op)
{
    emit_rm32(&x->b, 0x83, 7, FIELD(pending)); /* cmp dword [pending], 0 */
    emit8(&x->b, 0);
    xlat_exit_if(x, 5, op);
    emit_rm32(&x->b, 0xff, 1, FIELD(budget)); /* dec dword [budget] */
    xlat_exit_if(x, 8, op);
    x->flags_valid = false;
}

static void jump_to_body(struct xlat *x) /* of the block in RAX */
{
    emit_rm32(&x->b, 0xff, 4, host_at(H_AX, (uint32_t)offsetof(struct block, body)));
}

void xlat_link(struct xlat *x, unsigned op)
{
    struct emit_buf *b = &x->b;
    const struct op *o = &x->block->ops[op];
    if (x->poll_links || o->imm <= x->block->rip + o->off) {
        look_around(x, op);
    }
    if (o->imm == x->block->rip) {
        emit_jmp_to(b, x->body);
        return;
    }
    if (o->handler == link_same_page) {
        emit_mov_imm(b, H_AX, o->disp);
        jump_to_body(x);
        return;
    }
    emit_mov_imm(b, H_SI, (uint64_t)(uintptr_t)o);
    emit_rm32(b, 0x0fb6, H_AX, host_at(H_SI, (uint32_t)offsetof(struct op, scale_seg)));
    emit_rm32(b, 0x8b, H_AX,
              (struct host_mem){H_DI, H_AX, 2, (int32_t)offsetof(struct soft_cpu, gen)});
    emit_rm32(b, 0x3b, H_AX, host_at(H_SI, (uint32_t)offsetof(struct op, gen)));
    xlat_note_cold(x, emit_jcc(b, 5), op, XC_BY_LINK);
    emit_rm64(b, 0x8b, H_AX, host_at(H_SI, (uint32_t)offsetof(struct op, disp)));
    jump_to_body(x);
}

static void conditional(struct xlat *x, const struct xlat_insn *in)
{
    if (!x->flags_valid) {
        xlat_load_flags(x);
    }
    xlat_note_cold(x, emit_jcc(&x->b, in->insn.cond), in->link, XC_SIDE);
}

/* As op_jump() to the address in RAX, up to the jump itself: RAX = the block. */
static void find_target(struct xlat *x, unsigned op)
{
    struct emit_buf *b = &x->b;
    struct host_mem slot = {H_DI, H_SI, 3, (int32_t)offsetof(struct soft_cpu, jump)};
    struct host_mem field = slot;
    emit_rr32(b, 0x8b, H_SI, H_AX);
    EMIT(b, "\xc1\xee\x0c\x31\xc6\x81\xe6"); /* shr esi, 12; xor esi, eax; and esi, imm32 */
    emit32(b, (1u << SOFT_JUMP_BITS) - 1);
    EMIT(b, "\x48\x8d\x34\x76"); /* lea rsi, [rsi + 2 * rsi]: entries are 24 bytes */
    emit_rm64(b, 0x3b, H_AX, slot);
    xlat_exit_if(x, 5, op);
    field.disp = slot.disp + (int32_t)offsetof(struct soft_jump_entry, global);
    emit_rm32(b, 0x8b, H_AX, field);
    emit_rm32(b, 0x8b, H_AX,
              (struct host_mem){H_DI, H_AX, 2, (int32_t)offsetof(struct soft_cpu, gen)});
    field.disp = slot.disp + (int32_t)offsetof(struct soft_jump_entry, gen);
    emit_rm32(b, 0x3b, H_AX, field);
    xlat_exit_if(x, 5, op);
    field.disp = slot.disp + (int32_t)offsetof(struct soft_jump_entry, block);
    emit_rm64(b, 0x8b, H_AX, field);
    emit_rm32(b, 0x81, 7, host_at(H_AX, (uint32_t)offsetof(struct block, mode)));
    emit32(b, x->block->mode); /* cmp dword [block->mode], imm32 */
    xlat_exit_if(x, 5, op);
    x->flags_valid = false;
}
_Static_assert(sizeof(struct soft_jump_entry) == 24, "3 * 8 by one LEA and a scale");
_Static_assert(offsetof(struct soft_jump_entry, rip) == 0, "slot is the field too");

/* RAX = host address of size bytes at RSP + disp. */
static void probe_stack(struct xlat *x, const struct xlat_insn *in, int32_t disp, bool store)
{
    emit_rm64(&x->b, 0x8d, H_AX, host_at(xlat_home(R_SP), (uint32_t)disp));
    xlat_probe(x, in, 8, store, false);
}

static void move_stack(struct xlat *x, int32_t by)
{
    emit_rm64(&x->b, 0x8d, xlat_home(R_SP), host_at(xlat_home(R_SP), (uint32_t)by));
}

/* RAX = the 8-byte memory operand. */
static void load_operand(struct xlat *x, const struct xlat_insn *in)
{
    xlat_address(x, in);
    xlat_probe(x, in, 8, false, false);
    emit_rm64(&x->b, 0x8b, H_AX, host_at(H_AX, 0));
}

static void store_at_rax(struct xlat *x, uint64_t value)
{
    emit_mov_imm(&x->b, H_SI, value);
    emit_rm64(&x->b, 0x89, H_SI, host_at(H_AX, 0));
}

static void push(struct xlat *x, const struct xlat_insn *in)
{
    const struct insn *i = &in->insn;
    bool imm = i->desc->op[0] == O_I || i->desc->op[0] == O_IB;
    if (i->is_mem) {
        load_operand(x, in);
        emit_rm64(&x->b, 0x89, H_AX, FIELD(xlat_temp));
    }
    probe_stack(x, in, -8, true);
    if (imm) {
        store_at_rax(x, (uint64_t)i->imm);
    } else if (i->is_mem) {
        emit_rm64(&x->b, 0x8b, H_SI, FIELD(xlat_temp));
        emit_rm64(&x->b, 0x89, H_SI, host_at(H_AX, 0));
    } else {
        emit_rm64(&x->b, 0x89, xlat_use(x, i->rm, H_SI, true), host_at(H_AX, 0));
    }
    move_stack(x, -8);
}

static void pop(struct xlat *x, const struct xlat_insn *in)
{
    probe_stack(x, in, 0, false);
    unsigned to = xlat_use(x, in->insn.rm, H_SI, false);
    emit_rm64(&x->b, 0x8b, to, host_at(H_AX, 0));
    xlat_put(x, in->insn.rm, to);
    move_stack(x, 8);
}

static void leave(struct xlat *x, const struct xlat_insn *in)
{
    unsigned bp = xlat_home(R_BP);
    emit_rr64(&x->b, 0x8b, H_AX, bp);
    xlat_probe(x, in, 8, false, false);
    emit_rm64(&x->b, 0x8d, xlat_home(R_SP), host_at(bp, 8));
    emit_rm64(&x->b, 0x8b, bp, host_at(H_AX, 0));
}

static void call(struct xlat *x, const struct xlat_insn *in)
{
    probe_stack(x, in, -8, true);
    store_at_rax(x, in->next_rip);
    move_stack(x, -8);
    xlat_link(x, in->link);
}

static void computed(struct xlat *x, const struct xlat_insn *in)
{
    const struct insn *i = &in->insn;
    look_around(x, in->op);
    if (i->is_mem) {
        load_operand(x, in);
    } else if (xlat_home(i->rm) == H_NONE) {
        emit_rm64(&x->b, 0x8b, H_AX, xlat_slot(i->rm));
    } else {
        emit_rr64(&x->b, 0x8b, H_AX, xlat_home(i->rm));
    }
    find_target(x, in->op);
    if (in->kind == XK_CALL_RM) { /* all that can go wrong comes before the store */
        emit_rm64(&x->b, 0x89, H_AX, FIELD(xlat_temp));
        probe_stack(x, in, -8, true);
        store_at_rax(x, in->next_rip);
        move_stack(x, -8);
        emit_rm64(&x->b, 0x8b, H_AX, FIELD(xlat_temp));
    }
    jump_to_body(x);
}

static void ret(struct xlat *x, const struct xlat_insn *in)
{
    uint32_t drop = in->insn.desc->op[0] == O_IW ? (uint16_t)in->insn.imm : 0;
    look_around(x, in->op);
    probe_stack(x, in, 0, false);
    emit_rm64(&x->b, 0x8b, H_AX, host_at(H_AX, 0));
    find_target(x, in->op);
    move_stack(x, (int32_t)(8 + drop));
    jump_to_body(x);
}

void xlat_jump(struct xlat *x, const struct xlat_insn *in)
{
    switch (in->kind) {
    case XK_PUSH:
        push(x, in);
        break;
    case XK_POP:
        pop(x, in);
        break;
    case XK_LEAVE:
        leave(x, in);
        break;
    case XK_JCC:
        conditional(x, in);
        break;
    case XK_JMP:
        xlat_link(x, in->link);
        break;
    case XK_CALL:
        call(x, in);
        break;
    case XK_JMP_RM:
    case XK_CALL_RM:
        computed(x, in);
        break;
    case XK_RET:
        ret(x, in);
        break;
    default:
        break;
    }
}
