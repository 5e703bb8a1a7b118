/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The instruction decoder: prefixes, a walk through the decode table, ModRM, immediates. Pure;
 * reads each input byte at most a few times from a caller's stable copy and never past its end.
 * Uses general registers only and no libc: it runs while the guest's vector state is in the host's.
 *
 * Where vendors differ, Intel's rules: 66 is ignored on near branches (AMD would make them 16-bit),
 * far pointers in memory have a 64-bit offset with REX.W, LOCK MOV CR0 is not MOV CR8.
 */
#include "cpu/soft/insn_node.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Decoding in progress. */
struct dec {
    const uint8_t *p;
    unsigned pos, limit; /* next byte; bytes that may be read, at most 15 */
    uint8_t rex, rep, modrm;
    uint8_t vex;     /* its byte with vvvv, L and pp */
    bool p66, osz16; /* a 66 prefix; operand size 16, which depends on the mode too */
    bool mandatory, have_modrm, is_vex, prefixed;
    enum insn_mode mode;
};

enum prefix_class { PC_OPCODE, PC_REX, PC_OSZ, PC_ASZ, PC_REP, PC_LOCK, PC_SEG, PC_IGNORED };

#define R16(v) v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v
static const uint8_t prefix_classes[256] = {
    [0x26] = PC_IGNORED,  [0x2e] = PC_IGNORED, [0x36] = PC_IGNORED, [0x3e] = PC_IGNORED,
    [0x40] = R16(PC_REX), [0x64] = PC_SEG,     [0x65] = PC_SEG,     [0x66] = PC_OSZ,
    [0x67] = PC_ASZ,      [0xf0] = PC_LOCK,    [0xf2] = PC_REP,     [0xf3] = PC_REP,
};

/* Outside 64-bit mode: no REX, and every segment override counts. */
static const uint8_t legacy_prefix_classes[256] = {
    [0x26] = PC_SEG,  [0x2e] = PC_SEG, [0x36] = PC_SEG, [0x3e] = PC_SEG,
    [0x64] = PC_SEG,  [0x65] = PC_SEG, [0x66] = PC_OSZ, [0x67] = PC_ASZ,
    [0xf0] = PC_LOCK, [0xf2] = PC_REP, [0xf3] = PC_REP,
};

/* Operand size by enum insn_size. 64-bit mode: with 66, plain, with REX.W; else 16-bit, 32-bit. */
#define LEGACY_SIZES 3
static const uint8_t op_sizes[][5] = {
    [SZ_NONE] = {0, 0, 0, 0, 0}, [SZ_B] = {1, 1, 1, 1, 1},      [SZ_W] = {2, 2, 2, 2, 2},
    [SZ_D] = {4, 4, 4, 4, 4},    [SZ_Q] = {8, 8, 8, 8, 8},      [SZ_V] = {2, 4, 8, 2, 4},
    [SZ_Y] = {4, 4, 8, 4, 4},    [SZ_V64] = {2, 8, 8, 2, 4},    [SZ_F64] = {8, 8, 8, 2, 4},
    [SZ_Z] = {2, 4, 4, 2, 4},    [SZ_X] = {16, 16, 16, 16, 16}, [SZ_R] = {8, 8, 8, 4, 4},
};

static inline unsigned size_index(const struct dec *d)
{
    return (d->rex & 8u) != 0 && d->mode == INSN_64 ? 2u : d->osz16 ? 0u : 1u;
}

/* Bytes ran out: at 15 the instruction is too long, before that the caller gave too few. */
static enum insn_error out_of_bytes(struct dec *d)
{
    d->pos = d->limit;
    return d->limit == INSN_MAX_LEN ? INSN_TOO_LONG : INSN_TRUNCATED;
}

/* Unaligned words. Not memcpy(): sanitized builds call the runtime's, which uses vector registers.
 */
typedef uint16_t any_u16 __attribute__((aligned(1), may_alias));
typedef uint32_t any_u32 __attribute__((aligned(1), may_alias));
typedef uint64_t any_u64 __attribute__((aligned(1), may_alias));

/* A little-endian integer of n = 1, 2, 4 or 8 bytes, sign-extended; the caller checked the limit.
 */
static inline int64_t get_int(const uint8_t *p, unsigned n)
{
    switch (n) {
    case 1:
        return (int8_t)p[0];
    case 2:
        return (int16_t) * (const any_u16 *)p;
    case 4:
        return (int32_t) * (const any_u32 *)p;
    default:
        return (int64_t) * (const any_u64 *)p;
    }
}

/* Consume legacy and REX prefixes up to the opcode byte, which is left unread. */
static enum insn_error get_prefixes(struct dec *d, struct insn *out)
{
    const uint8_t *classes = d->mode == INSN_64 ? prefix_classes : legacy_prefix_classes;
    for (;; d->pos++) {
        if (unlikely(d->pos == d->limit)) {
            return out_of_bytes(d);
        }
        uint8_t b = d->p[d->pos];
        enum prefix_class cls = classes[b];
        if (cls == PC_OPCODE) {
            return INSN_OK;
        }
        if (cls == PC_REX) {
            d->rex = b;
            continue;
        }
        d->rex = 0; /* REX counts only right before the opcode */
        d->prefixed |= cls == PC_OSZ || cls == PC_REP || cls == PC_LOCK;
        switch (cls) {
        case PC_OSZ:
            d->p66 = true;
            break;
        case PC_ASZ:
            out->addr32 = true;
            break;
        case PC_REP:
            d->rep = b;
            break;
        case PC_LOCK:
            out->lock = true;
            break;
        case PC_SEG:
            out->seg = b < 0x40 ? (b >> 3) & 3u : b & 7u; /* 26 ES ... 3E DS, 64 FS, 65 GS */
            break;
        default:
            break;
        }
    }
}

/* The prefix that starts with b (C4, C5), and the opcode. */
static enum insn_error get_vex(struct dec *d, uint8_t b, struct insn *out,
                               const struct insn_node **node)
{
    static const struct insn_node *const maps[3] = {insn_map_vex0f, insn_map_vex0f38,
                                                    insn_map_vex0f3a};
    unsigned need = b == 0xc4 ? 3 : 2;
    if (unlikely(d->rex != 0 || d->prefixed)) {
        return INSN_UD;
    }
    if (unlikely(d->pos + need > d->limit)) {
        return out_of_bytes(d);
    }
    const uint8_t *p = d->p + d->pos;
    uint8_t rxb = (uint8_t)~p[0];
    d->pos += need;
    d->is_vex = true;
    d->vex = p[need - 2];
    d->rex = 0x40u | (rxb >> 5 & 4u);
    out->vex_map = 1;
    if (b == 0xc4) {
        d->rex = 0x40u | rxb >> 5 | (p[1] >> 4 & 8u);
        out->vex_map = p[0] & 0x1fu;
        if (out->vex_map < 1 || out->vex_map > 3) {
            return INSN_UD;
        }
    }
    if (d->mode != INSN_64) {
        d->rex &= 0x48; /* eight registers only */
    }
    out->vex_pp = d->vex & 3u;
    *node = &maps[out->vex_map - 1][p[need - 1]];
    return INSN_OK;
}

/* Read the opcode bytes and select the table slot. */
static enum insn_error get_opcode(struct dec *d, struct insn *out, const struct insn_node **node)
{
    const struct insn_node *map = insn_map_1byte;
    uint8_t b = d->p[d->pos++];
    /* outside 64-bit mode the register form of LES and LDS */
    if ((b & 0xfe) == 0xc4 && (d->mode == INSN_64 || (d->pos < d->limit && d->p[d->pos] >= 0xc0))) {
        return get_vex(d, b, out, node);
    }
    if (b == 0x0f) {
        if (unlikely(d->pos == d->limit)) {
            return out_of_bytes(d);
        }
        map = insn_map_0f;
        b = d->p[d->pos++];
        if (b == 0x38 || b == 0x3a) {
            if (unlikely(d->pos == d->limit)) {
                return out_of_bytes(d);
            }
            map = b == 0x38 ? insn_map_0f38 : insn_map_0f3a;
            b = d->p[d->pos++];
        }
    }
    *node = &map[b];
    return INSN_OK;
}

static inline bool get_modrm(struct dec *d)
{
    if (!d->have_modrm) {
        if (unlikely(d->pos == d->limit)) {
            return false;
        }
        d->modrm = d->p[d->pos++];
        d->have_modrm = true;
    }
    return true;
}

static inline unsigned prefix_index(const struct dec *d)
{
    if (d->is_vex) {
        return d->vex & 3u;
    }
    return d->rep == REP_REPE ? 2u : d->rep == REP_REPNE ? 3u : d->p66 ? 1u : 0u;
}

/* Follow sub-tables down to a row or NK_UD. */
static enum insn_error find_row(struct dec *d, const struct insn_node **pnode)
{
    const struct insn_node *node = *pnode;
    while (node->kind > NK_ROW) {
        unsigned i;
        switch (node->kind) {
        case NK_PREFIX:
            d->mandatory = true;
            i = prefix_index(d);
            break;
        case NK_REP:
            i = prefix_index(d);
            break;
        case NK_OPSZ:
            i = size_index(d);
            break;
        case NK_REXB:
            i = d->rex & 1u;
            break;
        case NK_VEXL:
            i = d->vex >> 2 & 1u;
            break;
        case NK_VEXW:
            i = d->rex >> 3 & 1u;
            break;
        case NK_MODE:
            i = d->mode != INSN_64;
            break;
        default:
            if (!get_modrm(d)) {
                return out_of_bytes(d);
            }
            i = node->kind == NK_MOD   ? d->modrm >= 0xc0
                : node->kind == NK_REG ? (d->modrm >> 3) & 7u
                                       : d->modrm & 7u;
            break;
        }
        node = &node->sub[i];
    }
    *pnode = node;
    return node->kind == NK_ROW ? INSN_OK : INSN_UD;
}

static enum insn_error get_disp(struct dec *d, unsigned size, struct insn *out)
{
    if (size != 0) {
        if (unlikely(d->pos + size > d->limit)) {
            return out_of_bytes(d);
        }
        out->disp = (int32_t)get_int(d->p + d->pos, size);
        out->disp_off = (uint8_t)d->pos;
        out->disp_size = (uint8_t)size;
        d->pos += size;
    }
    return INSN_OK;
}

/* A memory operand with 16-bit addressing (Intel SDM vol. 2, table 2-1): BX BP SI DI in pairs. */
static enum insn_error get_memory16(struct dec *d, struct insn *out)
{
    static const uint8_t bases[8] = {3, 3, 5, 5, 6, 7, 5, 3};
    static const uint8_t indexes[4] = {6, 7, 6, 7};
    unsigned mod = d->modrm >> 6, rm = d->modrm & 7u;
    if (mod == 0 && rm == 6) {
        return get_disp(d, 2, out);
    }
    out->base = bases[rm];
    if (rm < 4) {
        out->index = indexes[rm];
    }
    return get_disp(d, mod, out);
}

/* SIB and displacement of a memory operand. */
static enum insn_error get_memory(struct dec *d, unsigned enc, struct insn *out)
{
    unsigned mod = d->modrm >> 6, rm = d->modrm & 7u;
    unsigned rexb = (unsigned)(d->rex & 1u) << 3;
    unsigned disp_size = mod == 1 ? 1 : mod == 2 ? 4 : 0;
    if (rm == 4) {
        if (unlikely(d->pos == d->limit)) {
            return out_of_bytes(d);
        }
        uint8_t sib = d->p[d->pos++];
        unsigned index = ((sib >> 3) & 7u) | (unsigned)(d->rex & 2u) << 2;
        if (index != 4 || (enc & NE_VSIB) != 0) {
            out->index = (uint8_t)index;
            out->scale = sib >> 6;
        }
        if ((sib & 7u) == 5 && mod == 0) {
            disp_size = 4;
        } else {
            out->base = (uint8_t)((sib & 7u) | rexb);
        }
    } else if (rm == 5 && mod == 0) {
        disp_size = 4;
        if (d->mode == INSN_64) {
            out->base = INSN_REG_RIP;
        }
    } else {
        out->base = (uint8_t)(rm | rexb);
    }
    return get_disp(d, disp_size, out);
}

/* ModRM-derived fields of a row that has a ModRM byte. */
static enum insn_error get_operands(struct dec *d, unsigned enc, struct insn *out)
{
    uint8_t mod = d->modrm >> 6;
    out->has_modrm = true;
    out->mod = mod;
    out->reg = (d->modrm >> 3) & 7u;
    if ((enc & NE_REXR) != 0) {
        out->reg |= (d->rex & 4u) << 1;
    }
    out->rm = d->modrm & 7u;
    out->is_mem = mod != 3 && (enc & NE_ANYMOD) == 0;
    if (out->is_mem) {
        if ((enc & NE_REG) != 0) {
            return INSN_UD;
        }
        if (out->addr16) {
            return (enc & NE_VSIB) != 0 ? INSN_UD : get_memory16(d, out);
        }
        if (unlikely((enc & NE_VSIB) != 0 && out->rm != 4)) {
            return INSN_UD;
        }
        return get_memory(d, enc, out);
    }
    if ((enc & NE_MEM) != 0) {
        return INSN_UD;
    }
    if ((enc & NE_REXB) != 0) {
        out->rm |= (d->rex & 1u) << 3;
    }
    if ((enc & NE_ANYMOD) != 0 && out->reg >= 8 && (out->desc->id == I_MOV_DR || out->reg != 8)) {
        return INSN_UD; /* no CR9-15, DR8-15 */
    }
    return INSN_OK;
}

/* Immediate bytes the row calls for. NE_* bits are tested in the order the bytes come in. */
static enum insn_error get_immediate(struct dec *d, unsigned enc, struct insn *out)
{
    unsigned n, n2 = 0;
    if ((enc & (NE_IB | NE_IUB)) != 0) {
        n = 1;
    } else if ((enc & NE_I) != 0) {
        n = out->opsize < 4 ? out->opsize : 4;
    } else if ((enc & NE_IV) != 0) {
        n = out->opsize;
    } else if ((enc & NE_J) != 0) {
        n = (out->desc->attr & IA_REL8) != 0 ? 1 : out->opsize < 4 ? 2 : 4;
    } else if ((enc & NE_O) != 0) {
        n = out->addr16 ? 2 : out->addr32 ? 4 : 8;
    } else {
        n = 2;
    }
    if ((enc & NE_IW) != 0) { /* alone, ENTER's imm16, imm8, or a far pointer */
        n2 = (enc & NE_IUB) != 0 ? 1 : (enc & NE_IV) != 0 ? 2 : 0;
        n = n2 == 2 ? out->opsize : 2;
    }
    if (unlikely(d->pos + n + n2 > d->limit)) {
        return out_of_bytes(d);
    }
    int64_t v = get_int(d->p + d->pos, n);
    out->imm_off = (uint8_t)d->pos;
    out->imm_size = (uint8_t)(n + n2);
    if ((enc & NE_O) != 0) {
        out->disp64 = n == 2 ? (uint16_t)v : n == 4 ? (uint32_t)v : (uint64_t)v;
        out->disp_off = out->imm_off;
        out->disp_size = (uint8_t)n;
        out->imm_off = out->imm_size = 0;
    } else if ((enc & NE_IW) != 0) {
        out->imm = n == 4 ? (uint32_t)v : (uint16_t)v;
        out->imm2 = n2 == 2   ? (uint16_t)get_int(d->p + d->pos + n, 2)
                    : n2 == 1 ? d->p[d->pos + 2]
                              : 0;
    } else {
        out->imm = (enc & NE_IUB) != 0 ? (uint8_t)v : v;
    }
    d->pos += n + n2;
    return INSN_OK;
}

static void clear(struct insn *out)
{
    out->desc = NULL;
    out->len = out->opsize = out->cond = out->rep = 0;
    out->lock = out->addr32 = out->addr16 = out->has_rex = out->has_modrm = out->is_mem = false;
    out->rex = out->mod = out->reg = out->rm = 0;
    out->vex_map = out->vex_pp = out->vex_l = out->vvvv = 0;
    out->base = out->index = INSN_NO_REG;
    out->scale = 0;
    out->seg = INSN_NO_SEG;
    out->mem_size = 0;
    out->opcode_off = out->modrm_off = out->disp_off = out->imm_off = 0;
    out->disp_size = out->imm_size = 0;
    out->disp = 0;
    out->disp64 = 0;
    out->imm = out->imm2 = 0;
}

/* Copy the instruction's n bytes; zero the rest. have is what may be read. */
static inline void copy_bytes(struct insn *out, const uint8_t *p, unsigned n, size_t have)
{
    uint64_t w[2] = {0, 0};
    if (likely(have >= 16)) {
        w[0] = ((const any_u64 *)p)[0];
        w[1] = ((const any_u64 *)p)[1];
    } else {
        for (unsigned i = 0; i < n; i++) {
            w[i / 8] |= (uint64_t)p[i] << (i % 8 * 8);
        }
    }
    if (n < 8) {
        w[0] &= (UINT64_C(1) << n * 8) - 1;
        w[1] = 0;
    } else {
        w[1] &= (UINT64_C(1) << (n - 8) * 8) - 1; /* n <= 15 */
    }
    *(any_u64 *)out->bytes = w[0];
    *(any_u64 *)(out->bytes + 7) = *(any_u64 *)((uint8_t *)w + 7);
}

/* What the row asks of the VEX prefix, and the fields that come from it. Source: SDM vol. 2, 2.3.
 */
static enum insn_error check_vex(const struct dec *d, unsigned enc, struct insn *out)
{
    uint32_t attr = out->desc->attr;
    bool l = (d->vex & 4u) != 0, w = (d->rex & 8u) != 0;
    unsigned vvvv = ~(unsigned)d->vex >> 3 & 15u;
    out->vvvv = (uint8_t)(vvvv & (d->mode == INSN_64 ? 15u : 7u));
    out->has_rex = false;
    out->vex_l = l && (attr & IA_LIG) == 0;
    if (out->desc->size == SZ_X && l) {
        out->opsize = 32;
        out->mem_size = out->desc->mem_size != 0 ? out->desc->mem_size : 32;
    }
    bool bad = (l && (attr & IA_L0) != 0) || (!l && (attr & IA_L1) != 0) ||
               (w && (attr & IA_W0) != 0) || (!w && (attr & IA_W1) != 0) ||
               ((enc & NE_VVVV) == 0 && vvvv != 0);
    return bad ? INSN_UD : INSN_OK;
}

static enum insn_error decode(struct dec *d, struct insn *out)
{
    const struct insn_node *node;
    enum insn_error e = get_prefixes(d, out);
    if (unlikely(e != INSN_OK)) {
        return e;
    }
    d->osz16 = d->p66 ^ (d->mode == INSN_16);
    if (d->mode != INSN_64) {
        out->addr16 = out->addr32 ^ (d->mode == INSN_16);
        out->addr32 = !out->addr16;
    }
    out->opcode_off = (uint8_t)d->pos;
    e = get_opcode(d, out, &node);
    if (unlikely(e != INSN_OK)) {
        return e;
    }
    uint8_t opcode = d->p[d->pos - 1];
    unsigned modrm_off = d->pos;
    e = find_row(d, &node);
    if (unlikely(e != INSN_OK)) {
        return e;
    }
    const struct insn_desc *desc = node->row;
    unsigned enc = node->enc;
    out->desc = desc;
    out->opsize = op_sizes[desc->size][size_index(d) + (d->mode != INSN_64 ? LEGACY_SIZES : 0)];
    out->mem_size = desc->mem_size != 0 ? desc->mem_size : out->opsize;
    out->cond = opcode & 15u;
    out->rex = d->rex;
    out->has_rex = d->rex != 0;
    out->rep = d->mandatory ? 0 : d->rep;
    out->reg = (opcode >> 3) & 7u;
    out->rm = (opcode & 7u) | (d->rex & 1u) << 3;
    if (d->is_vex) {
        e = check_vex(d, enc, out);
        if (unlikely(e != INSN_OK)) {
            return e;
        }
    }
    if ((enc & NE_MODRM) != 0 || d->have_modrm) {
        if (!get_modrm(d)) {
            return out_of_bytes(d);
        }
        out->modrm_off = (uint8_t)modrm_off;
        e = get_operands(d, enc, out);
        if (unlikely(e != INSN_OK)) {
            return e;
        }
    }
    if (unlikely(out->lock) && !(out->is_mem && (desc->attr & IA_LOCK) != 0)) {
        return INSN_UD;
    }
    if (desc->id == I_XCHG) {
        out->lock = out->is_mem;
    } else if (desc->id == I_VGATHER &&
               (out->reg == out->vvvv || out->reg == out->index || out->vvvv == out->index)) {
        return INSN_UD;
    }
    return (enc & NE_IMM) != 0 ? get_immediate(d, enc, out) : INSN_OK;
}

enum insn_error insn_decode_mode(const uint8_t *bytes, size_t len, enum insn_mode mode,
                                 struct insn *out)
{
    struct dec d = {
        .p = bytes, .limit = len < INSN_MAX_LEN ? (unsigned)len : INSN_MAX_LEN, .mode = mode};
    clear(out);
    out->mode = (uint8_t)mode;
    enum insn_error e = decode(&d, out);
    out->len = (uint8_t)d.pos;
    if (unlikely(e != INSN_OK)) {
        out->desc = NULL;
    }
    copy_bytes(out, bytes, d.pos, len);
    return e;
}
