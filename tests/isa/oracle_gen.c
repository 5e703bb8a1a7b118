// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "oracle_gen_priv.h"

enum { CX = 1, SP = 4 };
#define TF 0x100u

static void add_row(void *opaque, unsigned map, unsigned opcode, unsigned prefix, int sub,
                    const struct insn_desc *desc)
{
    struct gen *g = opaque;
    if (!gen_excluded(g->model, desc) && g->n_rows < GEN_MAX_ROWS) {
        g->rows[g->n_rows++] = (struct gen_row){map, opcode, prefix, sub, desc, 0};
    }
}

void gen_init(struct gen *g, uint64_t seed, uint64_t model)
{
    memset(g, 0, sizeof *g);
    g->seed = seed;
    g->model = model;
    insn_table_walk(false, add_row, g);
}

static void start_case(struct gen *g, uint64_t number, struct oc_case *c)
{
    g->state = g->seed ^ number * 0xd1342543de82ef95ull;
    g->c = c;
    g->pool = OC_CODE_MAX;
    c->n_patches = 1;
    c->n_insns = 0;
    c->undefined = c->ever_undefined = 0;
    for (unsigned i = 0; i < 16; i++) {
        c->gpr[i] = gen_int(g);
    }
    c->rflags = 0x202 | (gen_rnd(g) & 0x8d5) | (gen_pick(g, 4) ? 0 : GEN_DF);
    gen_fx(g, c->fx);
    memset(c->ymm, 0, sizeof c->ymm);
    for (unsigned i = 0; (g->model & INSN_FEATURE(IFT_AVX)) && i < OC_YMM; i += 16) {
        gen_value(g, c->ymm + i);
    }
}

/* Where code of n bytes lies: sometimes over the page's end, or against the end of all code. */
static void place_code(struct gen *g, unsigned n, bool ends_with_trap)
{
    unsigned k = gen_pick(g, 24);
    uint64_t at = OC_CODE + gen_pick(g, 2) * OC_PAGE + 256 + gen_pick(g, OC_PAGE - 512);
    if (k == 0) {
        at = OC_CODE + OC_PAGE - gen_pick(g, n + 1);
    } else if (k == 1) {
        at = OC_CODE + OC_CODE_BYTES - gen_pick(g, n + 2) - ends_with_trap;
    }
    g->code = g->c->rip = at;
}

static void put_code(struct gen *g, const uint8_t *bytes, unsigned n)
{
    g->c->patch[0] = (struct oc_patch){.va = g->code, .len = (uint16_t)n, .at = 0};
    memcpy(g->c->pool, bytes, n);
}

/* Without TF a branch back into the code would go round for ever. */
static void tame_branch(struct insn *i, uint8_t *b, unsigned len)
{
    if (i->desc->op[0] == O_J && i->imm < 0 && i->imm >= -(int64_t)(len + 16)) {
        b[i->imm_off] = (uint8_t)(i->imm & 0x3f);
        if (i->imm_size == 4) {
            memset(b + i->imm_off + 1, 0, 3);
        }
        insn_decode(b, i->len, i);
    }
}

/* An instruction that must fault before anything of it counts. */
static void put_illegal(struct gen *g, const uint8_t *b, unsigned len)
{
    do { /* where the decoder stops fetching is its own business: no page ends inside */
        place_code(g, len, false);
    } while ((g->code & 0xfff) > 0xfe0);
    put_code(g, b, len);
    g->c->rflags |= TF;
    g->c->n_insns = 1;
    g->c->insn_len[0] = (uint8_t)(len < INSN_MAX_LEN ? len : INSN_MAX_LEN);
}

/* More prefixes without a meaning, up to and past 15 bytes. */
static enum insn_error pad(struct gen *g, uint8_t b[32], struct insn *i, unsigned *len)
{
    /* AMD decodes UD0 and UD1 without their operands */
    unsigned n = gen_pick(g, 30) || i->desc->id == I_UD ? 0 : gen_pick(g, 15);
    *len = i->len + n;
    if (n == 0) {
        return INSN_OK;
    }
    memmove(b + n, b, 32 - n);
    memset(b, 0x2e, n);
    return insn_decode(b, INSN_MAX_LEN, i);
}

static void single(struct gen *g)
{
    struct oc_case *c = g->c;
    uint8_t b[32];
    struct insn i;
    struct gen_row *r;
    enum insn_error e;
    bool step = gen_pick(g, 2);
    for (;;) {
        r = &g->rows[gen_pick(g, g->n_rows)];
        memset(b, 0, sizeof b);
        e = gen_encode(g, r, b, &i);
        if (e == INSN_OK && !gen_unusable(g, &i) && (step || i.desc->id != I_POPF)) {
            break;
        }
        struct insn without;
        if (e == INSN_UD && /* LOCK where it must not be, or any of these before VEX */
            insn_decode(b + 1, INSN_MAX_LEN, &without) == INSN_OK &&
            (b[0] == 0xf0 || (without.vex_map && without.opcode_off == 0)) &&
            !gen_unusable(g, &without) && without.desc->id != I_MOV_CR &&
            without.len < INSN_MAX_LEN) {
            put_illegal(g, b, without.len + 1);
            return;
        }
    }
    unsigned len;
    if (pad(g, b, &i, &len) != INSN_OK) {
        put_illegal(g, b, len);
        return;
    }
    r->ran += i.desc == r->desc;
    place_code(g, i.len, !step);
    gen_aim(g, &i, b, g->code);
    if (step) {
        c->rflags |= TF;
    } else {
        tame_branch(&i, b, i.len);
    }
    put_code(g, b, i.len);
    c->n_insns = 1;
    c->insn_len[0] = i.len;
    c->undefined = c->ever_undefined = i.desc->flags_undefined;
}

/* A flag write that leaves the old value when a count is 0 does not define it. */
static bool may_keep_flags(const struct insn_desc *d)
{
    return (d->id >= I_ROL && d->id <= I_SHRD) || d->id == I_CMPS || d->id == I_SCAS;
}

/* Is it worth a place in a sequence, given the flags that are undefined before it? */
static bool fits_sequence(const struct gen *g, const struct insn *i, unsigned undefined)
{
    const struct insn_desc *d = i->desc;
    bool counts = may_keep_flags(d) && d->id != I_RCL && d->id != I_RCR;
    if (gen_unusable(g, i) || (i->is_mem && i->mem_size > 64) ||
        (d->id >= I_FXSAVE && d->id < I_X87)) {
        return false;
    }
    if ((d->id == I_SHLD || d->id == I_SHRD) && i->opsize == 2) {
        return false; /* the count must be seen */
    }
    if (!counts && (d->flags_read & undefined)) {
        return false;
    }
    if (d->attr & (IA_PRIV | IA_IOPL)) {
        return false;
    }
    switch (d->id) {
    case I_POPF:
    case I_RET:
    case I_JMP_RM:
    case I_CALL_RM:
    case I_INT ... I_INT1:
    case I_INT3:
    case I_UD:
    case I_MASKMOV:
    case I_VGATHER:
        return false;
    default:
        return true;
    }
}

/* Point each relative branch at the start of a later instruction, or the end. */
static void link_branches(struct gen *g, uint8_t *b, const unsigned *start, unsigned n)
{
    for (unsigned k = 0; k < n; k++) {
        struct insn i;
        if (insn_decode(b + start[k], start[k + 1] - start[k], &i) != INSN_OK ||
            i.desc->op[0] != O_J) {
            continue;
        }
        unsigned to = k + 1 + gen_pick(g, n - k);
        uint32_t disp = start[to] - start[k + 1];
        memcpy(b + start[k] + i.imm_off, &disp, i.imm_size);
    }
}

static void track_undefined(struct oc_case *c, const struct insn_desc *d, bool *branched)
{
    unsigned defined = d->flags_written & ~(unsigned)d->flags_undefined;
    if (d->attr & IA_BRANCH) {
        *branched = true;
    }
    if (!*branched && !may_keep_flags(d)) {
        c->undefined &= (uint16_t)~defined;
    }
    c->undefined |= d->flags_undefined;
    c->ever_undefined |= d->flags_undefined;
}

/* Rows that set flags and rows that use them meet more often than chance has it. */
static struct gen_row *sequence_row(struct gen *g)
{
    static const unsigned jcc[2] = {0x70, 0x80};
    struct gen_row *r;
    bool branch = gen_pick(g, 6) == 0, integer = gen_pick(g, 3) != 0;
    for (unsigned tries = 0;; tries++) {
        r = &g->rows[gen_pick(g, g->n_rows)];
        if (tries > 400) {
            return r;
        }
        if (branch) {
            if (r->desc->id == I_JCC && (r->opcode & 0xf0) == jcc[r->map & 1]) {
                return r;
            }
        } else if (!integer || r->desc->id < I_CLI) {
            return r;
        }
    }
}

/* A store into an immediate further down, which must then be executed as changed. */
#define SMC_LEN 7
static void link_store(struct gen *g, uint8_t *b, const unsigned *start, unsigned n)
{
    uint64_t target = OC_DATA + gen_pick(g, OC_PAGE);
    unsigned from = 1 + gen_pick(g, n - 1);
    for (unsigned k = from; k < n; k++) {
        struct insn i;
        if (insn_decode(b + start[k], start[k + 1] - start[k], &i) == INSN_OK && i.imm_size &&
            (i.desc->id <= I_DEC || i.desc->id == I_MOV || i.desc->id == I_IMUL3)) {
            target = g->code + start[k] + i.imm_off + gen_pick(g, i.imm_size);
            break;
        }
    }
    uint32_t disp = (uint32_t)(target - (g->code + SMC_LEN));
    memcpy(b + 2, &disp, 4);
}

/* Go round from one to four times: count a byte of memory down. The count sets all flags, so what
 * they are at the start is defined every time. Returns the bytes added. */
#define LOOP_LEN 14
static unsigned put_loop(struct gen *g, uint8_t *b, unsigned len)
{
    struct oc_case *c = g->c;
    uint32_t at = OC_COUNT + gen_pick(g, OC_PAGE), back = (uint32_t) - (len + LOOP_LEN);
    uint8_t *p = b + len;
    memcpy(p, "\x80\x2c\x25....\x01\x0f\x85", 10); /* sub byte [at], 1; jnz start */
    memcpy(p + 3, &at, 4);
    memcpy(p + 10, &back, 4);
    c->pool[g->pool] = (uint8_t)(1 + gen_pick(g, 4));
    c->patch[c->n_patches++] = (struct oc_patch){.va = at, .len = 1, .at = (uint16_t)g->pool++};
    c->insn_len[c->n_insns++] = 8;
    c->insn_len[c->n_insns++] = 6;
    c->undefined = 0;
    return LOOP_LEN;
}

/* What random registers hold in a sequence: some places to address, a stack. */
static void aim_sequence(struct gen *g)
{
    struct oc_case *c = g->c;
    c->rflags &= ~(uint64_t)(gen_pick(g, 2) ? GEN_DF : 0);
    for (unsigned a = 0; a < 3; a++) {
        g->anchor[a] = (uint8_t)gen_pick(g, 16);
        c->gpr[g->anchor[a]] = gen_target(g, 64) & ~15ull;
    }
    c->gpr[SP] = gen_target(g, 64) & ~7ull;
    c->gpr[CX] &= gen_pick(g, 2) ? 31 : ~0ull;
}

static void sequence(struct gen *g)
{
    struct oc_case *c = g->c;
    uint8_t code[OC_MAX_INSNS * INSN_MAX_LEN + 32];
    unsigned start[OC_MAX_INSNS + 1], n = 2 + gen_pick(g, OC_MAX_INSNS - 3), len = 0, k = 0;
    bool branched = false;
    aim_sequence(g);
    place_code(g, n * 5, true);
    bool store = gen_pick(g, 12) == 0;
    if (store) { /* mov byte ptr [rip + x], value */
        memcpy(code, "\xc6\x05", 2);
        code[SMC_LEN - 1] = (uint8_t)gen_rnd(g);
        start[k] = 0;
        c->insn_len[k++] = SMC_LEN;
        len = SMC_LEN;
    }
    while (k < n) {
        struct gen_row *r = sequence_row(g);
        struct insn i;
        if (gen_encode(g, r, code + len, &i) != INSN_OK || !fits_sequence(g, &i, c->undefined)) {
            continue;
        }
        r->ran += i.desc == r->desc;
        uint64_t sp = c->gpr[SP];
        gen_aim(g, &i, code + len, g->code + len);
        c->gpr[SP] = sp;
        track_undefined(c, i.desc, &branched);
        start[k] = len;
        c->insn_len[k++] = i.len;
        len += i.len;
    }
    start[n] = len;
    link_branches(g, code, start, n);
    if (store) {
        link_store(g, code, start, n);
    }
    c->n_insns = (uint8_t)n;
    if (gen_pick(g, 3) == 0 && c->n_patches < OC_MAX_PATCHES && g->pool < OC_POOL) {
        len += put_loop(g, code, len);
    }
    put_code(g, code, len);
}

void gen_case(struct gen *g, uint64_t number, struct oc_case *c)
{
    start_case(g, number, c);
    g->sequence = gen_pick(g, 3) < (g->more_sequences ? 2 : 1);
    if (g->sequence) {
        sequence(g);
    } else {
        single(g);
    }
}
