/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From guest bytes to a block of cached operations. A block is straight code inside one page, up to
 * a branch, a system instruction or BLOCK_MAX_INSNS; an instruction that crosses into the next page
 * is a block of its own.
 *
 * Flags that nobody can see are not computed: a backward pass picks the flag-free twin of an
 * operation when a later one overwrites all its flags and nothing between can fault or read them.
 */
#include "cpu/soft/check.h"
#include "cpu/soft/legacy.h"
#include "cpu/soft/ops.h"

/* What the flag pass needs to know of each operation. */
struct flag_info {
    uint16_t read, written;
    bool visible; /* may fault or leave: all flags must be right before it */
    op_handler no_flags;
};

struct builder {
    struct lift l;
    struct insn insn, prev;
    struct insn room; /* legacy_lift()'s */
    bool have_prev;   /* prev was the instruction just before, and a plain operation */
    struct op ops[LIFT_MAX_OPS];
    struct flag_info info[LIFT_MAX_OPS];
    uint8_t bytes[BLOCK_MAX_INSNS * INSN_MAX_LEN]; /* of the instructions */
};

struct op *lift_emit(struct lift *l, op_handler handler)
{
    struct op *o = &l->ops[l->n++];
    *o = (struct op){.handler = handler,
                     .base = SOFT_ZERO_REG,
                     .index = SOFT_ZERO_REG,
                     .scale_seg = LIFT_NO_SEG << 4,
                     .len = l->insn->len,
                     .off = l->off};
    return o;
}

/* 67 prefix: the operation before computes the address into a hidden register. */
static const struct op *address32(struct soft_cpu *cpu, const struct op *o)
{
    cpu->gpr[SOFT_EA_REG] = op_ea32(cpu, o);
    NEXT;
}

struct op *lift_emit_mem(struct lift *l, op_handler handler)
{
    if (lift_addr32(l->insn)) {
        lift_mem(l->insn, l->next_rip, lift_emit(l, address32));
        struct op *o = lift_emit(l, handler);
        o->base = SOFT_EA_REG;
        return o;
    }
    struct op *o = lift_emit(l, handler);
    lift_mem(l->insn, l->next_rip, o);
    return o;
}

const struct op *lift_stale_entry(struct soft_cpu *cpu, const struct op *o)
{
    cpu->rip = cpu->block->rip;
    return NULL;
}

const struct op *lift_stale_next(struct soft_cpu *cpu, const struct op *o)
{
    cpu->rip = o->len ? op_rip(cpu, o) : o->imm;
    return NULL;
}

static bool feature_hidden(const struct soft_cpu *cpu, const struct insn *i)
{
    if (i->vex_map != 0 && (cpu->mode & MODE_REAL)) {
        return true; /* SDM vol. 2, 2.4: VEX is #UD in real mode */
    }
    return (cpu->features & INSN_FEATURE(i->desc->feature)) == 0 && i->desc->id != I_TZCNT &&
           i->desc->id != I_LZCNT; /* bit_lift() knows what they are then */
}

static bool cannot_fault(const struct soft_cpu *cpu, const struct insn *i)
{
    if (i->is_mem && (i->desc->attr & (IA_LOAD | IA_STORE))) {
        return false;
    }
    switch (i->desc->id) {
    case I_ADD ... I_IMUL3:
    case I_MOV ... I_XCHG:
    case I_CBW ... I_CMOVCC:
    case I_LAHF ... I_PAUSE:
        return i->desc->op[0] != O_O && i->desc->op[1] != O_O;
    case I_AVX:
        if (cpu->mode & MODE_AVX_OFF) {
            return false;
        }
        /* fall through */
    case I_SSE:
        return !(cpu->mode & (MODE_FP_OFF | MODE_SSE_TRAP));
    default:
        return false;
    }
}

/* Lift the instruction in b->insn. */
static void lift_one(struct builder *b)
{
    struct lift *l = &b->l;
    unsigned first = l->n;
    l->no_flags = NULL;
    if (b->insn.desc->id == I_JCC && b->have_prev && fuse_lift(l, &b->prev)) {
        for (unsigned i = first - 1; i < l->n; i++) {
            b->info[i] = (struct flag_info){.visible = true};
        }
        b->have_prev = false;
        return;
    }
    bool known = !feature_hidden(l->cpu, &b->insn) &&
                 ((l->mode != INSN_64 && legacy_lift(l, &b->room)) || alu_lift(l) || mov_lift(l) ||
                  branch_lift(l) || stack_lift(l) || shift_lift(l) || bit_lift(l) || bmi_lift(l) ||
                  mul_lift(l) || string_lift(l) || atomic_lift(l) || misc_lift(l));
    if (!known) {
        lift_emit_raise(l, V_UD);
    }
    bool visible = !cannot_fault(l->cpu, &b->insn);
    for (unsigned i = first; i < l->n; i++) {
        b->info[i] = (struct flag_info){.visible = visible};
    }
    if (l->n > first) {
        struct flag_info *last = &b->info[l->n - 1];
        last->read = b->insn.desc->flags_read;
        last->written = b->insn.desc->flags_written;
        last->no_flags = l->no_flags;
    }
    b->have_prev = l->n == first + 1;
    b->prev = b->insn;
}

static void drop_dead_flags(struct builder *b)
{
    unsigned live = IF_ALL;
    for (unsigned i = b->l.n; i-- > 0;) {
        const struct flag_info *f = &b->info[i];
        if (f->no_flags && f->written && !(f->written & live)) {
            b->ops[i].handler = f->no_flags;
        } else {
            live = (live & ~(unsigned)f->written) | f->read;
        }
        if (f->visible) {
            live = IF_ALL;
        }
    }
}

/* Decode at rip; the bytes may reach into the next page. False: stop the block before it. */
static bool fetch(struct builder *b, const uint8_t *page, unsigned offset, bool first, gpa_t *phys2)
{
    struct lift *l = &b->l;
    unsigned room = 4096 - offset;
    enum insn_error e = insn_decode_mode(page + offset, room < 15 ? room : 15, l->mode, &b->insn);
    if (e == INSN_TRUNCATED) {
        if (!first) {
            return false;
        }
        uint8_t bytes[INSN_MAX_LEN];
        bool global;
        for (unsigned i = 0; i < room; i++) {
            bytes[i] = page[offset + i];
        }
        l->cpu->insn_rip = l->rip;
        uint64_t va = legacy_code_va(l->cpu, l->rip);
        *phys2 = soft_fetch_translate(l->cpu, (va & ~0xfffull) + 4096, &global);
        soft_claim_code(l->cpu, *phys2);
        const uint8_t *page2 = soft_phys_ptr(l->cpu, *phys2);
        for (unsigned i = room; i < INSN_MAX_LEN; i++) {
            bytes[i] = page2 ? page2[i - room] : 0xff;
        }
        e = insn_decode_mode(bytes, INSN_MAX_LEN, l->mode, &b->insn);
        l->end = true;
    }
    if ((l->cpu->mode & MODE_CODE_LIMIT) && l->rip + b->insn.len - 1u > l->cpu->seg[SEG_CS].limit) {
        if (first) {
            l->cpu->insn_rip = l->rip;
            soft_raise_code(l->cpu, V_GP, 0);
        }
        return false;
    }
    if (e != INSN_OK) {
        b->insn.len = 1;
        b->insn.is_mem = false;
        l->insn = &b->insn;
        lift_emit_raise(l, e == INSN_TOO_LONG ? V_GP : V_UD);
        b->info[l->n - 1] = (struct flag_info){.visible = true};
    }
    return true;
}

static void end_block(struct builder *b, uint64_t rip)
{
    struct lift *l = &b->l;
    struct insn none = {.len = 0};
    l->insn = &none;
    l->off = (uint16_t)(rip - l->rip);
    lift_emit_link(l, rip);
    b->info[l->n - 1] = (struct flag_info){.visible = true};
}

static struct block *store_block(struct builder *b, uint64_t rip, gpa_t phys, gpa_t phys2,
                                 unsigned n_bytes)
{
    struct soft_cpu *cpu = b->l.cpu;
    /* one operation more than needed: drop_block() may patch the one after the last */
    size_t ops_bytes = (b->l.n + 1) * sizeof(struct op);
    struct block *block = blocks_alloc(cpu, sizeof *block + ops_bytes + n_bytes);
    if (!block) {
        return NULL;
    }
    block->rip = rip;
    block->phys = phys;
    block->phys2 = phys2 & ~0xfffull;
    block->mode = cpu->mode;
    block->n_ops = (uint16_t)b->l.n;
    block->n_bytes = (uint16_t)n_bytes;
    block->dead = false;
    block->checked = 0;
    block->crosses = phys2 != 0;
    block->page_next[0] = block->page_next[1] = NULL;
    for (unsigned i = 0; i < b->l.n; i++) {
        block->ops[i] = b->ops[i];
    }
    block->ops[b->l.n] = (struct op){.handler = lift_stale_next};
    uint8_t *bytes = (uint8_t *)block->ops + ops_bytes;
    for (unsigned i = 0; i < n_bytes; i++) {
        bytes[i] = b->bytes[i];
    }
    block->bytes = bytes;
    xlat_watch(cpu->cache->xlat, block);
    return block;
}

struct block *lift_block(struct soft_cpu *cpu, uint64_t rip, gpa_t phys)
{
    struct builder *b = cpu->cache->builder;
    unsigned offset = phys & 0xfff, start = offset, max = BLOCK_MAX_INSNS;
    gpa_t phys2 = 0;
    const uint8_t *page = soft_phys_ptr(cpu, phys & ~0xfffull);
    if (!page) {
        soft_fail(cpu, "the guest jumped to an address that is not memory");
    }
    soft_claim_code(cpu, phys);
    if ((cpu->mode & MODE_STEP) || cpu->shadow) {
        max = 1;
    }
    b->l = (struct lift){.cpu = cpu, .mode = legacy_insn_mode(cpu->mode), .ops = b->ops};
    b->have_prev = false;
    for (unsigned n = 0;; n++) {
        b->l.rip = rip + (offset - start);
        b->l.off = (uint16_t)(offset - start);
        if (n == max || offset >= 4096) {
            b->l.rip = rip;
            end_block(b, rip + (offset - start));
            break;
        }
        unsigned before = b->l.n;
        if (!fetch(b, page, offset, n == 0, &phys2)) {
            b->l.rip = rip;
            end_block(b, rip + (offset - start));
            break;
        }
        bool raised = b->l.n != before, split = !raised && check_splits(cpu, &b->insn);
        if (split) {
            max = n + 1;
        }
        if (split && n > 0) {
            b->l.end = false;
            b->l.rip = rip;
            end_block(b, rip + (offset - start));
            break;
        }
        for (unsigned i = 0; i < b->insn.len; i++) {
            b->bytes[offset - start + i] = b->insn.bytes[i];
        }
        b->l.insn = &b->insn;
        b->l.next_rip = b->l.rip + b->insn.len;
        if (b->l.mode != INSN_64) {
            b->l.next_rip = (uint32_t)b->l.next_rip;
        }
        if (!raised) {
            bool crossing = b->l.end;
            b->l.end = false;
            lift_one(b);
            if (crossing && !b->l.end && !b->l.full) {
                offset += b->insn.len;
                b->l.rip = rip;
                end_block(b, rip + (offset - start));
                break;
            }
        }
        if (b->l.full) {
            return NULL;
        }
        offset += b->insn.len;
        if (b->l.end) {
            break;
        }
    }
    drop_dead_flags(b);
    return store_block(b, rip, phys, phys2, offset - start);
}

size_t lift_builder_size(void)
{
    return sizeof(struct builder);
}
