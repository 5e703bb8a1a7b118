// SPDX-License-Identifier: Apache-2.0
/* What may run natively, and random encodings of a row. */
#include <string.h>

#include "oracle_gen_priv.h"

const char *gen_excluded(uint64_t model, const struct insn_desc *desc)
{
    if (!(model & INSN_FEATURE(desc->feature))) {
        return "not in the CPU model (soft: #UD), but on the host";
    }
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
    case I_XGETBV:
        return "the host's XCR0 is its own";
    case I_VMCALL:
        return "answered by the host's hypervisor";
    case I_INT1:
        return "hypervisors report RIP before or behind it (ICEBP)";
    case I_MOV_SREG:
        return desc->op[0] == O_S ? "depends on the host kernel's descriptor tables" : NULL;
    default:
        return NULL;
    }
}

/* Bits of the flags that the table calls undefined after the row. */
static void list_undefined(FILE *out, unsigned flags)
{
    static const struct {
        unsigned bit;
        const char *name;
    } names[6] = {{IF_CF, "CF"}, {IF_PF, "PF"}, {IF_AF, "AF"},
                  {IF_ZF, "ZF"}, {IF_SF, "SF"}, {IF_OF, "OF"}};
    for (unsigned i = 0; i < 6; i++) {
        if (flags & names[i].bit) {
            fprintf(out, " %s", names[i].name);
        }
    }
    fputc('\n', out);
}

struct excluded_list {
    FILE *out;
    uint64_t model;
    const struct insn_desc *last;
};

static void list_row(void *opaque, unsigned map, unsigned opcode, unsigned prefix, int sub,
                     const struct insn_desc *desc)
{
    struct excluded_list *l = opaque;
    const char *why = gen_excluded(l->model, desc);
    if (why && desc != l->last) {
        fprintf(l->out, "not run: %-10s map %u opcode %02x: %s\n", desc->name, map, opcode, why);
    }
    if (!why && desc->flags_undefined && desc != l->last) {
        fprintf(l->out, "masked: %-11s map %u opcode %02x:", desc->name, map, opcode);
        list_undefined(l->out, desc->flags_undefined);
    }
    l->last = desc;
}

void gen_list_excluded(uint64_t model, FILE *out)
{
    struct excluded_list l = {.out = out, .model = model};
    insn_table_walk(false, list_row, &l);
    fprintf(out, "not run: int 0x80 (system call); F3 with BSF, BSR (TZCNT, LZCNT on the host); "
                 "66 with near branches or MOVSXD, 0F 0D with a register (vendors differ);\n"
                 "not run: F2, F3 with LOOPE, LOOPNE (AMD takes the condition from the prefix);\n"
                 "not run: LOCK MOV CR (another encoding of CR8 on AMD); "
                 "16-bit BSWAP, SHLD, SHRD by more than 16 bits (undefined results)\n");
}

static bool is_near_branch(const struct insn_desc *d)
{
    return (d->id >= I_JCC && d->id <= I_JRCXZ);
}

bool gen_is_string(const struct insn_desc *d)
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
    if (r->map >= 5) { /* VEX takes segments and 67, and what makes it #UD */
        static const uint8_t bad[] = {0x66, 0xf2, 0xf3, 0xf0, 0x40, 0x4f};
        if (gen_pick(g, 8) == 0) {
            b[n++] = gen_pick(g, 2) ? 0x64 : 0x65;
        }
        if (n == 0 && gen_pick(g, 40) == 0) {
            b[n++] = bad[gen_pick(g, sizeof bad)];
        }
        return n;
    }
    if (r->prefix != 0x66 && gen_pick(g, r->map == 0 ? 4 : 8) == 0 && !is_near_branch(r->desc)) {
        b[n++] = 0x66;
    }
    if (r->prefix) {
        b[n++] = (uint8_t)r->prefix;
    } else if (gen_pick(g, gen_is_string(r->desc) ? 2 : 16) == 0) {
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

/* The VEX prefix with W, R, X, B of rex. Returns its length. */
static unsigned put_vex(struct gen *g, const struct gen_row *r, uint8_t rex, uint8_t *b)
{
    unsigned pp = r->prefix == 0x66 ? 1 : r->prefix == 0xf3 ? 2 : r->prefix == 0xf2 ? 3 : 0;
    unsigned vvvv = gen_pick(g, 3) ? gen_pick(g, 16) : 15, l = gen_pick(g, 2);
    if (r->map == 5 && !(rex & 11) && gen_pick(g, 4)) {
        b[0] = 0xc5;
        b[1] = (uint8_t)((~rex & 4) << 5 | vvvv << 3 | l << 2 | pp);
        return 2;
    }
    b[0] = 0xc4;
    b[1] = (uint8_t)((~rex & 7) << 5 | (r->map - 4));
    b[2] = (uint8_t)((rex & 8) << 4 | vvvv << 3 | l << 2 | pp);
    return 3;
}

/* Random bytes of the row; what comes out may also be another row, or no instruction. */
enum insn_error gen_encode(struct gen *g, const struct gen_row *r, uint8_t b[32], struct insn *insn)
{
    uint8_t body[4];
    uint8_t modrm = random_modrm(g, r);
    uint8_t rex = gen_pick(g, 2) ? (uint8_t)(0x40 | gen_pick(g, 16)) : 0;
    unsigned n_body = 1, n = random_prefixes(g, r, b);
    body[0] = modrm;
    if (g->sequence && modrm < 0xc0) {
        n_body = anchored(g, modrm, &rex, body);
    }
    if (r->map >= 5) {
        n += put_vex(g, r, rex, b + n);
    } else if (rex) {
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
bool gen_unusable(const struct gen *g, const struct insn *i)
{
    const struct insn_desc *d = i->desc;
    bool f3 = has_byte(i, 0xf3);
    return gen_excluded(g->model, d) || (is_near_branch(d) && has_byte(i, 0x66)) ||
           (d->id == I_NOP && i->bytes[i->opcode_off + 1] == 0x0d && !i->is_mem) ||
           ((d->id == I_LOOPE || d->id == I_LOOPNE) && (f3 || has_byte(i, 0xf2))) ||
           (d->id == I_MOVSXD && i->opsize == 2) || (d->id == I_INT && (i->imm & 0xff) == 0x80) ||
           ((d->id == I_BSF || d->id == I_BSR) && f3) || (d->id == I_BSWAP && i->opsize == 2) ||
           ((d->id == I_SHLD || d->id == I_SHRD) && i->opsize == 2 && d->op[2] != O_CL &&
            (i->imm & 31) > 16);
}
