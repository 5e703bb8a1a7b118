/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/soft/xlat.h"

#include "cpu/soft/ops.h"
#include "cpu/soft/stub.h"

/* The guest registers that have a home, one by one. */
static void move_all(struct emit_buf *b, unsigned opcode, unsigned but)
{
    for (unsigned g = 0; g < 16; g++) {
        if (xlat_home(g) != H_NONE && g != but) {
            emit_rm64(b, opcode, xlat_home(g), xlat_slot(g));
        }
    }
}

/* Handlers are C functions, and one that cannot tail-call the next comes back when the chain ends:
 * it finds its registers as it left them. */
#define PUSH_KEPT "\x53\x55\x41\x54\x41\x55\x41\x56\x41\x57" /* push rbx, rbp, r12 to r15 */
#define POP_KEPT "\x41\x5f\x41\x5e\x41\x5d\x41\x5c\x5d\x5b"

static void open_buffer(struct xlat *x)
{
    size_t room;
    x->b = (struct emit_buf){0};
    x->b.start = stub_room(x->area, &x->b.run, &room);
    x->b.at = x->b.start;
    x->b.end = x->b.start + room;
}

static void close_buffer(struct xlat *x)
{
    stub_take(x->area, (size_t)(x->b.at - x->b.start));
}

static struct host_mem block_field(void)
{
    return host_at(H_DI, (uint32_t)offsetof(struct soft_cpu, block));
}

void xlat_reset(struct xlat *x)
{
    stub_reset(x->area);
    x->full = false;
    open_buffer(x);
    struct emit_buf *b = &x->b;
    x->load = emit_here(b);
    EMIT(b, PUSH_KEPT);
    move_all(b, 0x8b, 16);
    EMIT(b, "\xff\xe0"); /* jmp rax */
    x->leave = emit_here(b);
    emit_rm64(b, 0x89, H_CX, block_field());
    move_all(b, 0x89, R_CX);
    EMIT(b, POP_KEPT "\xff\xe0");
    x->interpret = emit_here(b);
    move_all(b, 0x89, 16);
    EMIT(b, POP_KEPT);
    emit_rm64(b, 0x89, H_AX, block_field());
    emit_rm64(b, 0x8d, H_SI, host_at(H_AX, (uint32_t)offsetof(struct block, ops)));
    emit_rm32(b, 0xff, 4, host_at(H_SI, (uint32_t)offsetof(struct op, handler)));
    close_buffer(x);
}

/* ---- from the block's bytes to a list of instructions ---- */

/* The operations of an instruction of len bytes at off, beginning at *k; its links follow. */
static void match_ops(const struct block *b, struct xlat_insn *in, unsigned off, unsigned *k)
{
    const struct op *ops = b->ops;
    in->op = XLAT_NO_OP;
    if (*k < b->n_ops && ops[*k].len != 0 && ops[*k].off == off) {
        in->op = (uint16_t)*k;
        while (*k < b->n_ops && ops[*k].len != 0 && ops[*k].off == off) {
            (*k)++;
        }
    }
    in->link = (uint16_t)*k;
    while (*k < b->n_ops && ops[*k].len == 0 && ops[*k].off == off + in->insn.len) {
        (*k)++;
    }
}

static bool is_native(const struct xlat_insn *in)
{
    return in->kind != XK_ISLAND;
}

static unsigned links_needed(const struct xlat *x, unsigned i)
{
    const struct xlat_insn *in = &x->insns[i];
    bool last = i + 1 == x->n;
    switch (in->kind) {
    case XK_JCC:
        return last ? 2 : 1;
    case XK_CALL:
    case XK_JMP:
        return 1;
    case XK_RET:
    case XK_JMP_RM:
    case XK_CALL_RM:
    case XK_ISLAND:
        return 0;
    default:
        return last ? 1 : 0;
    }
}

/* Does the translator see the operations as the lifter made them? */
static bool consistent(const struct xlat *x, const struct block *b)
{
    for (unsigned i = 0; i < x->n; i++) {
        const struct xlat_insn *in = &x->insns[i];
        unsigned links = links_needed(x, i);
        bool none = in->kind == XK_JCC || in->kind == XK_JMP || in->kind == XK_SKIP;
        if ((in->op == XLAT_NO_OP && !none) || in->link + links > b->n_ops) {
            return false;
        }
        for (unsigned k = 0; k < links; k++) {
            if (b->ops[in->link + k].len != 0) {
                return false;
            }
        }
    }
    return true;
}

/* False when the block is nothing for the translator. */
static bool decode(struct xlat *x, const struct block *b, uint64_t features)
{
    unsigned k = 0, native = 0, islands = 0;
    x->n = 0;
    for (unsigned off = 0; off < b->n_bytes && x->n < BLOCK_MAX_INSNS;) {
        struct xlat_insn *in = &x->insns[x->n++];
        if (insn_decode(b->bytes + off, b->n_bytes - off, &in->insn) != INSN_OK) {
            return false;
        }
        in->next_rip = b->rip + off + in->insn.len;
        match_ops(b, in, off, &k);
        xlat_classify(in, b->mode, features);
        bool fused = in->kind == XK_JCC && in->op == XLAT_NO_OP;
        if (fused && x->n > 1 && !is_native(&x->insns[x->n - 2])) {
            in->kind = XK_ISLAND; /* its compare is, and jumps */
            in->op = x->insns[x->n - 2].op;
        }
        native += is_native(in) && in->kind != XK_SKIP;
        islands += !is_native(in);
        off += in->insn.len;
    }
    /* A lone jump pays, too, when it comes from code and goes to code: calls through a PLT. */
    bool pays = native >= 2 || (native == 1 && (islands == 0 || x->hot == 1));
    return pays && consistent(x, b);
}

/* Which flags must go to memory: those that somebody may look for there, which is whoever runs
 * after leaving, and readers that do not come at once. */
static void find_saves(struct xlat *x)
{
    unsigned live = IF_ALL;
    for (unsigned i = x->n; i-- > 0;) {
        struct xlat_insn *in = &x->insns[i];
        unsigned read = in->reads;
        in->save = (in->changes & live) != 0;
        if (in->save && in->writes != IF_ALL) {
            read = IF_ALL; /* the others are stored along with them */
        }
        live = in->exits ? IF_ALL : (live & ~(unsigned)in->writes) | read;
    }
}

/* ---- emission ---- */

static op_handler original(const struct xlat *x, unsigned op)
{
    return op == 0 ? x->block->first : x->block->ops[op].handler;
}

static bool replaced(const struct xlat *x, unsigned op)
{
    for (unsigned i = 0; i < x->n_entries; i++) {
        if (x->entries[i].op == op) {
            return true;
        }
    }
    return false;
}

/* Behind RSI = operation, RAX = handler. */
static void leave_block(struct xlat *x)
{
    if (x->way_out) {
        emit_jmp_to(&x->b, x->way_out);
        return;
    }
    x->way_out = emit_here(&x->b);
    emit_rm64(&x->b, 0x89, H_CX, xlat_slot(R_CX));
    emit_mov_imm(&x->b, H_CX, (uint64_t)(uintptr_t)x->block);
    emit_jmp_to(&x->b, x->leave);
}

static void handler_of_op(struct xlat *x)
{
    emit_rm64(&x->b, 0x8b, H_AX, host_at(H_SI, (uint32_t)offsetof(struct op, handler)));
}

static void exit_at(struct xlat *x, unsigned op)
{
    emit_mov_imm(&x->b, H_SI, (uint64_t)(uintptr_t)&x->block->ops[op]);
    if (replaced(x, op)) {
        emit_mov_imm(&x->b, H_AX, (uint64_t)(uintptr_t)original(x, op));
    } else {
        handler_of_op(x);
    }
    leave_block(x);
}

/* An operation whose handler becomes code that goes on here. */
static void enter_here(struct xlat *x, unsigned op)
{
    x->entries[x->n_entries++] = (struct xlat_entry){(uint16_t)op, emit_here(&x->b)};
    EMIT(&x->b, "\x48\x8d\x05\x05\x00\x00\x00"); /* lea rax, [behind the jump] */
    emit_jmp_to(&x->b, x->load);
    x->flags_valid = false;
}

/* Is it worth going back to translated code for instruction i and what follows? */
static bool worth_resuming(const struct xlat *x, unsigned i)
{
    const struct xlat_insn *in = &x->insns[i];
    return i < x->n && is_native(in) && in->op != XLAT_NO_OP &&
           (i + 1 == x->n || is_native(in + 1));
}

static void emit_cold(struct xlat *x)
{
    for (unsigned i = 0; i < x->n_cold; i++) { /* links add to it */
        struct xlat_cold c = x->cold[i];
        emit_land(&x->b, c.from);
        x->flags_valid = false;
        switch (c.what) {
        case XC_OP:
            exit_at(x, c.op);
            break;
        case XC_SIDE:
            xlat_link(x, c.op);
            break;
        default: /* RSI is the link */
            handler_of_op(x);
            leave_block(x);
        }
    }
}

static void emit_body(struct xlat *x)
{
    bool inside = true; /* the code before goes on into what comes next */
    for (unsigned i = 0; i < x->n; i++) {
        const struct xlat_insn *in = &x->insns[i];
        if (!is_native(in)) {
            if (inside) {
                exit_at(x, in->op);
            }
            inside = false;
            continue;
        }
        if (!inside && worth_resuming(x, i)) {
            enter_here(x, in->op);
            inside = true;
        }
        if (inside) {
            xlat_int(x, in);
            xlat_jump(x, in);
        }
    }
    const struct xlat_insn *last = &x->insns[x->n - 1];
    unsigned links = links_needed(x, x->n - 1);
    bool done = last->kind == XK_CALL || last->kind == XK_JMP || links == 0;
    if (inside && !done) {
        xlat_link(x, last->link + links - 1);
    }
}

static void align(struct xlat *x, unsigned before)
{
    while ((((uintptr_t)emit_here(&x->b) + before) & 15) != 0 && !x->b.full) {
        emit8(&x->b, 0xcc);
    }
}
#define ENTRY_BYTES 12 /* of enter_here() */

static void translate(struct xlat *x, struct block *b)
{
    x->block = b;
    x->n_cold = x->n_entries = 0;
    x->way_out = NULL;
    find_saves(x);
    open_buffer(x);
    align(x, ENTRY_BYTES);
    if (is_native(&x->insns[0]) && x->insns[0].op == 0) { /* links keep their handlers */
        enter_here(x, 0);
    }
    x->body = emit_here(&x->b);
    x->flags_valid = false;
    emit_body(x);
    emit_cold(x);
    if (x->b.full) {
        x->full = true;
        return;
    }
    close_buffer(x);
    for (unsigned i = 0; i < x->n_entries; i++) {
        b->ops[x->entries[i].op].handler = (op_handler)(uintptr_t)x->entries[i].code;
    }
    b->body = x->body;
}

static void become_hot(struct soft_cpu *cpu, struct block *b)
{
    struct xlat *x = cpu->cache->xlat;
    b->ops[0].handler = b->first;
    if (x->full || !decode(x, b, cpu->features)) {
        return;
    }
    translate(x, b);
    if (x->full) {
        blocks_ask_reset(cpu);
    }
}

OP(count_run)
{
    struct block *b = cpu->block;
    if (b->heat > 1) {
        b->heat--;
        return b->first(cpu, o);
    }
    become_hot(cpu, b);
    DISPATCH(o);
}

void xlat_watch(struct xlat *x, struct block *b)
{
    b->first = b->ops[0].handler;
    b->body = x->interpret;
    b->heat = (uint16_t)x->hot;
    if (x->hot != 0 && b->bytes != NULL && !b->crosses &&
        (b->mode & (MODE_STEP | MODE_BREAK | MODE_LEGACY)) == 0) {
        b->ops[0].handler = count_run;
    }
}

void xlat_forget(struct xlat *x, struct block *b)
{
    b->body = x->interpret;
}
