// SPDX-License-Identifier: Apache-2.0
#include "oracle_gen.h"

#include <stdbool.h>
#include <string.h>

enum { AX, CX, DX, BX, SP, BP, SI, DI };
#define TF 0x100u
#define DF 0x400u

const char *gen_excluded(const struct insn_desc *desc)
{
    switch (desc->id) {
    case I_SYSCALL:
    case I_SYSENTER:
    case I_SYSRET:
    case I_SYSEXIT:
        return "system call: enters the host's kernel, or #UD by vendor";
    case I_RETF:
    case I_IRET:
    case I_JMP_FAR:
    case I_CALL_FAR:
        return "far transfer: would leave 64-bit mode on the host";
    case I_LSS:
    case I_LFS:
    case I_LGS:
    case I_POP_SREG:
    case I_LAR:
    case I_LSL:
    case I_VERR:
    case I_VERW:
        return "depends on the host kernel's descriptor tables";
    case I_SGDT:
    case I_SIDT:
    case I_SMSW:
    case I_SLDT:
    case I_STR:
        return "UMIP: the host's kernel emulates it";
    case I_WRFSBASE:
    case I_WRGSBASE:
        return "the host side's segment bases are fixed";
    case I_CPUID:
    case I_RDTSC:
    case I_RDTSCP:
    case I_RDPMC:
    case I_RDRAND:
    case I_RDSEED:
        return "the result is not a function of the state";
    case I_VMCALL:
        return "answered by the host's hypervisor";
    case I_INT1:
        return "hypervisors report RIP before or behind it (ICEBP)";
    case I_MOVBE:
        return "not in CPU model v2 (soft: #UD), but on the host";
    case I_MOV_SREG:
        return desc->op[0] == O_S ? "depends on the host kernel's descriptor tables" : NULL;
    default:
        return NULL;
    }
}

struct excluded_list {
    FILE *out;
    const struct insn_desc *last;
};

static void list_row(void *opaque, unsigned map, unsigned opcode, unsigned prefix, int sub,
                     const struct insn_desc *desc)
{
    struct excluded_list *l = opaque;
    const char *why = gen_excluded(desc);
    if (why && desc != l->last) {
        fprintf(l->out, "not run: %-10s map %u opcode %02x: %s\n", desc->name, map, opcode, why);
    }
    l->last = desc;
}

void gen_list_excluded(FILE *out)
{
    struct excluded_list l = {.out = out};
    insn_table_walk(list_row, &l);
    fprintf(out, "not run: int 0x80 (system call); F3 with BSF, BSR (TZCNT, LZCNT on the host); "
                 "66 with near branches or MOVSXD, 0F 0D with a register (vendors differ);\n"
                 "not run: F2, F3 with LOOPE, LOOPNE (AMD takes the condition from the prefix);\n"
                 "not run: LOCK MOV CR (another encoding of CR8 on AMD); "
                 "16-bit BSWAP, SHLD, SHRD by more than 16 bits (undefined results)\n");
}

static void add_row(void *opaque, unsigned map, unsigned opcode, unsigned prefix, int sub,
                    const struct insn_desc *desc)
{
    struct gen *g = opaque;
    if (!gen_excluded(desc) && g->n_rows < GEN_MAX_ROWS) {
        g->rows[g->n_rows++] = (struct gen_row){map, opcode, prefix, sub, desc, 0};
    }
}

void gen_init(struct gen *g, uint64_t seed)
{
    memset(g, 0, sizeof *g);
    g->seed = seed;
    insn_table_walk(add_row, g);
}

/* ---- encodings */

static bool is_near_branch(const struct insn_desc *d)
{
    return (d->id >= I_JCC && d->id <= I_JRCXZ);
}

static bool is_string(const struct insn_desc *d)
{
    return d->id >= I_MOVS && d->id <= I_OUTS;
}

/* Legacy prefixes in some order; the mandatory one counts wherever it is. */
static unsigned random_prefixes(struct gen *g, const struct gen_row *r, uint8_t *b)
{
    static const uint8_t dead[4] = {0x26, 0x2e, 0x36, 0x3e};
    unsigned n = 0;
    if (gen_pick(g, 10) == 0) {
        b[n++] = 0x67;
    }
    if (r->prefix != 0x66 && gen_pick(g, r->map == 0 ? 4 : 8) == 0 && !is_near_branch(r->desc)) {
        b[n++] = 0x66;
    }
    if (r->prefix) {
        b[n++] = (uint8_t)r->prefix;
    } else if (gen_pick(g, is_string(r->desc) ? 2 : 16) == 0) {
        b[n++] = gen_pick(g, 2) ? 0xf3 : 0xf2;
    }
    if (gen_pick(g, r->desc->attr & IA_LOCK ? 4 : 60) == 0) {
        b[n++] = 0xf0;
    }
    if (gen_pick(g, 8) == 0) {
        b[n++] = gen_pick(g, 2) ? 0x64 : 0x65;
    }
    if (gen_pick(g, 24) == 0) {
        b[n++] = dead[gen_pick(g, 4)];
    }
    for (unsigned i = n; i > 1; i--) {
        unsigned k = gen_pick(g, i);
        uint8_t t = b[i - 1];
        b[i - 1] = b[k];
        b[k] = t;
    }
    return n;
}

static uint8_t random_modrm(struct gen *g, const struct gen_row *r)
{
    uint8_t modrm = (uint8_t)gen_rnd(g);
    if (r->sub >= 0xc0) {
        return (uint8_t)r->sub;
    }
    if (r->sub >= 0 && r->map == 4) {
        return (uint8_t)(gen_pick(g, 3) << 6 | (unsigned)r->sub | gen_pick(g, 8));
    }
    if (r->sub >= 0) {
        modrm = (uint8_t)((modrm & 0xc7) | (unsigned)r->sub << 3);
    }
    return gen_pick(g, 4) == 0 ? modrm | 0xc0 : modrm;
}

/* In a sequence: an operand that earlier instructions hardly move. */
static unsigned anchored(struct gen *g, uint8_t modrm, uint8_t *rex, uint8_t *out)
{
    unsigned kind = gen_pick(g, 4), reg = g->anchor[gen_pick(g, 3)];
    if (kind == 0) {
        out[0] = (uint8_t)((modrm & 0x38) | 5); /* RIP-relative */
        return 1;
    }
    if (kind == 1) { /* absolute */
        out[0] = (uint8_t)((modrm & 0x38) | 4);
        out[1] = 0x25;
        *rex &= ~3;
        return 2;
    }
    *rex = (uint8_t)((*rex & ~1) | (reg >> 3) | (reg >= 8 ? 0x40 : 0));
    out[0] = (uint8_t)((modrm & 0x38) | (kind == 2 ? 0x80 : 0x40) | (reg & 7));
    if ((reg & 7) != 4) {
        return 1;
    }
    *rex &= ~2;
    out[1] = 0x24;
    return 2;
}

/* Random bytes of the row; what comes out may also be another row, or no instruction. */
static enum insn_error encode(struct gen *g, const struct gen_row *r, uint8_t b[32],
                              struct insn *insn)
{
    uint8_t body[4];
    uint8_t modrm = random_modrm(g, r);
    uint8_t rex = gen_pick(g, 2) ? (uint8_t)(0x40 | gen_pick(g, 16)) : 0;
    unsigned n_body = 1, n = random_prefixes(g, r, b);
    body[0] = modrm;
    if (g->sequence && modrm < 0xc0) {
        n_body = anchored(g, modrm, &rex, body);
    }
    if (rex) {
        b[n++] = rex;
    }
    if (r->map >= 1 && r->map <= 3) {
        b[n++] = 0x0f;
    }
    if (r->map == 2 || r->map == 3) {
        b[n++] = r->map == 2 ? 0x38 : 0x3a;
    }
    b[n++] = (uint8_t)r->opcode;
    memcpy(b + n, body, n_body);
    for (n += n_body; n < 32; n++) {
        b[n] = (uint8_t)gen_rnd(g);
    }
    /* Rows without ModRM start their immediate where it would be. */
    enum insn_error e = insn_decode(b, INSN_MAX_LEN, insn);
    if (e == INSN_OK && insn->imm_size && gen_pick(g, 2) == 0) {
        uint64_t v = gen_int(g);
        memcpy(b + insn->imm_off, &v, insn->imm_size);
        e = insn_decode(b, INSN_MAX_LEN, insn);
    }
    return e;
}

static bool has_byte(const struct insn *i, uint8_t prefix)
{
    for (unsigned k = 0; k < i->opcode_off; k++) {
        if (i->bytes[k] == prefix) {
            return true;
        }
    }
    return false;
}

/* Decoded to something else that must not run, or whose outcome is nobody's business. */
static bool unusable(const struct insn *i)
{
    const struct insn_desc *d = i->desc;
    bool f3 = has_byte(i, 0xf3);
    return gen_excluded(d) || (is_near_branch(d) && has_byte(i, 0x66)) ||
           (d->id == I_NOP && i->bytes[i->opcode_off + 1] == 0x0d && !i->is_mem) ||
           ((d->id == I_LOOPE || d->id == I_LOOPNE) && (f3 || has_byte(i, 0xf2))) ||
           (d->id == I_MOVSXD && i->opsize == 2) || (d->id == I_INT && (i->imm & 0xff) == 0x80) ||
           ((d->id == I_BSF || d->id == I_BSR) && f3) || (d->id == I_BSWAP && i->opsize == 2) ||
           ((d->id == I_SHLD || d->id == I_SHRD) && i->opsize == 2 &&
            (d->op[2] == O_CL || (i->imm & 31) > 16));
}

/* ---- operands */

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
    bool down = g->c->rflags & DF;
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

static void aim(struct gen *g, struct insn *i, uint8_t *b, uint64_t rip)
{
    unsigned size = i->mem_size ? i->mem_size : i->opsize ? i->opsize : 1;
    uint64_t ea = gen_target(g, size);
    if (is_string(i->desc)) {
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
    } else if (i->is_mem) {
        aim_modrm(g, i, b, rip, ea);
    }
    if (i->is_mem && gen_pick(g, 2)) {
        patch_random(g, ea, size);
    }
    tune(g, i, ea);
    g->c->ea = ea;
}

/* ---- cases */

static void start_case(struct gen *g, uint64_t number, struct oc_case *c)
{
    g->state = g->seed ^ number * 0xd1342543de82ef95ull;
    g->c = c;
    g->pool = 128; /* the code's */
    c->n_patches = 1;
    c->n_insns = 0;
    c->undefined = c->ever_undefined = 0;
    for (unsigned i = 0; i < 16; i++) {
        c->gpr[i] = gen_int(g);
    }
    c->rflags = 0x202 | (gen_rnd(g) & 0x8d5) | (gen_pick(g, 4) ? 0 : DF);
    gen_fx(g, c->fx);
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
        e = encode(g, r, b, &i);
        if (e == INSN_OK && !unusable(&i) && (step || i.desc->id != I_POPF)) {
            break;
        }
        struct insn without;
        if (e == INSN_UD && b[0] == 0xf0 && /* LOCK where it must not be */
            insn_decode(b + 1, INSN_MAX_LEN, &without) == INSN_OK && !unusable(&without) &&
            without.desc->id != I_MOV_CR && without.len < INSN_MAX_LEN) {
            do { /* the decoder need not fetch to the end to know: no page ends inside */
                place_code(g, without.len + 1, false);
            } while ((g->code & 0xfff) > 0xff0);
            put_code(g, b, without.len + 1);
            c->rflags |= TF;
            c->n_insns = 1;
            c->insn_len[0] = (uint8_t)(without.len + 1);
            return;
        }
    }
    r->ran++;
    place_code(g, i.len, !step);
    aim(g, &i, b, g->code);
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
static bool fits_sequence(const struct insn *i, unsigned undefined)
{
    const struct insn_desc *d = i->desc;
    bool counts = may_keep_flags(d) && d->id != I_RCL && d->id != I_RCR;
    if (unusable(i) || (i->is_mem && i->mem_size > 64) || (d->id >= I_FXSAVE && d->id < I_X87)) {
        return false;
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

static void sequence(struct gen *g)
{
    struct oc_case *c = g->c;
    uint8_t code[OC_MAX_INSNS * INSN_MAX_LEN + 32];
    unsigned start[OC_MAX_INSNS + 1], n = 2 + gen_pick(g, OC_MAX_INSNS - 1), len = 0, k = 0;
    bool branched = false;
    c->rflags &= ~(uint64_t)(gen_pick(g, 2) ? DF : 0);
    for (unsigned a = 0; a < 3; a++) {
        g->anchor[a] = (uint8_t)gen_pick(g, 16);
        c->gpr[g->anchor[a]] = gen_target(g, 64) & ~15ull;
    }
    c->gpr[SP] = gen_target(g, 64) & ~7ull;
    c->gpr[CX] &= gen_pick(g, 2) ? 31 : ~0ull;
    place_code(g, n * 5, true);
    while (k < n) {
        struct gen_row *r = sequence_row(g);
        struct insn i;
        if (encode(g, r, code + len, &i) != INSN_OK || !fits_sequence(&i, c->undefined)) {
            continue;
        }
        r->ran++;
        uint64_t sp = c->gpr[SP];
        aim(g, &i, code + len, g->code + len);
        c->gpr[SP] = sp;
        track_undefined(c, i.desc, &branched);
        start[k] = len;
        c->insn_len[k++] = i.len;
        len += i.len;
    }
    start[n] = len;
    link_branches(g, code, start, n);
    c->n_insns = (uint8_t)n;
    put_code(g, code, len);
}

void gen_case(struct gen *g, uint64_t number, struct oc_case *c)
{
    start_case(g, number, c);
    g->sequence = gen_pick(g, 3) == 0;
    if (g->sequence) {
        sequence(g);
    } else {
        single(g);
    }
}
