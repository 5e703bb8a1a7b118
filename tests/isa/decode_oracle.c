/* SPDX-License-Identifier: Apache-2.0 */
#include "decode_oracle.h"
#include "decode_known.h"

#include <stdbool.h>
#include <string.h>

#include "cpu/soft/insn.h"

static const char *const field_names[OF_COUNT] = {
    "only Zydis accepts", "only we accept", "length",          "name",      "feature",
    "attributes",         "operand size",   "layout",          "memory",    "memory size",
    "memory access",      "alignment",      "FP exceptions",   "register",  "immediate",
    "flags read",         "flags written",  "flags undefined", "truncated",
};

/* One comparison in progress. */
struct cmp {
    struct oracle *o;
    const uint8_t *bytes;
    size_t len;
    enum insn_error err;
    struct insn in;
    bool z_ok;
    ZydisDecodedInstruction z;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
};

static void differ(struct cmp *c, enum oracle_field field, uint64_t zydis, uint64_t ours)
{
    unsigned id = c->err == INSN_OK ? c->in.desc->id : 0;
    unsigned mnemonic = c->z_ok ? c->z.mnemonic : 0;
    for (size_t i = 0; i < decode_known_count; i++) {
        const struct decode_known *k = &decode_known[i];
        if (k->field == field && (k->id == 0 || k->id == id) &&
            (k->mnemonic == 0 || k->mnemonic == mnemonic) &&
            (k->zydis == KNOWN_ANY || k->zydis == zydis) &&
            (k->ours == KNOWN_ANY || k->ours == ours)) {
            c->o->known_hits[i]++;
            return;
        }
    }
    c->o->unexplained++;
    if (c->o->reported[field][mnemonic]++ != 0) {
        c->o->reported[field][mnemonic] = 1;
        return;
    }
    printf("DIFF %s: zydis %s len %u value %llx, ours %s error %d len %u value %llx:",
           field_names[field], c->z_ok ? ZydisMnemonicGetString(c->z.mnemonic) : "-",
           c->z_ok ? c->z.length : 0, (unsigned long long)zydis,
           c->err == INSN_OK ? c->in.desc->name : "-", c->err, c->in.len, (unsigned long long)ours);
    for (size_t i = 0; i < c->len && i < 15; i++) {
        printf(" %02x", c->bytes[i]);
    }
    printf("\n");
}

static void expect(struct cmp *c, enum oracle_field field, uint64_t zydis, uint64_t ours)
{
    if (zydis != ours) {
        differ(c, field, zydis, ours);
    }
}

/* Mnemonics agree up to the size suffix that Zydis adds, and its own spellings. */
static bool same_name(const struct cmp *c)
{
    static const struct {
        const char *zydis, *ours;
    } alias[] = {
        {"movq", "movd"},          {"pextrq", "pextrd"},        {"pinsrq", "pinsrd"},
        {"ret", "retf"},           {"jecxz", "jrcxz"},          {"feni8087_nop", "fneni"},
        {"fstpnce", "fstp"},       {"nop", "prefetch"},         {"fdisi8087_nop", "fndisi"},
        {"prefetchw", "prefetch"}, {"prefetchwt1", "prefetch"}, {"fsetpm287_nop", "fnsetpm"},
        {"prefetchnta", "nop"},    {"prefetcht0", "nop"},       {"prefetcht1", "nop"},
        {"prefetcht2", "nop"},     {"vmovq", "vmovd"},          {"vpextrq", "vpextrd"},
        {"vpinsrq", "vpinsrd"},    {"jcxz", "jrcxz"},
    };
    const char *z = ZydisMnemonicGetString(c->z.mnemonic), *ours = c->in.desc->name;
    size_t n = strlen(ours);
    for (size_t i = 0; i < sizeof(alias) / sizeof(alias[0]); i++) {
        if (strcmp(z, alias[i].zydis) == 0 && strcmp(ours, alias[i].ours) == 0) {
            return true;
        }
    }
    if (strncmp(z, ours, n) != 0) {
        return false;
    }
    const char *rest = z + n;
    return rest[0] == '\0' || strcmp(rest, "64") == 0 ||
           (rest[1] == '\0' && strchr("bwdq", rest[0]) != NULL);
}

static unsigned feature_of(const struct cmp *c)
{
    static const uint8_t by_ext[ZYDIS_ISA_EXT_MAX_VALUE + 1] = {
        [ZYDIS_ISA_EXT_X87] = IFT_X87,          [ZYDIS_ISA_EXT_MMX] = IFT_MMX,
        [ZYDIS_ISA_EXT_SSE] = IFT_SSE,          [ZYDIS_ISA_EXT_SSE2] = IFT_SSE2,
        [ZYDIS_ISA_EXT_SSE3] = IFT_SSE3,        [ZYDIS_ISA_EXT_SSSE3] = IFT_SSSE3,
        [ZYDIS_ISA_EXT_SSE4] = IFT_SSE41,       [ZYDIS_ISA_EXT_AES] = IFT_AES,
        [ZYDIS_ISA_EXT_PCLMULQDQ] = IFT_PCLMUL, [ZYDIS_ISA_EXT_RDRAND] = IFT_RDRAND,
        [ZYDIS_ISA_EXT_RDSEED] = IFT_RDSEED,    [ZYDIS_ISA_EXT_RDWRFSGS] = IFT_FSGSBASE,
        [ZYDIS_ISA_EXT_MOVBE] = IFT_MOVBE,      [ZYDIS_ISA_EXT_RDTSCP] = IFT_RDTSCP,
        [ZYDIS_ISA_EXT_CLFSH] = IFT_SSE2,       [ZYDIS_ISA_EXT_AVX] = IFT_AVX,
        [ZYDIS_ISA_EXT_AVX2] = IFT_AVX,         [ZYDIS_ISA_EXT_AVX2GATHER] = IFT_AVX,
        [ZYDIS_ISA_EXT_AVXAES] = IFT_AVX,       [ZYDIS_ISA_EXT_FMA] = IFT_FMA,
        [ZYDIS_ISA_EXT_F16C] = IFT_F16C,        [ZYDIS_ISA_EXT_BMI1] = IFT_BMI1,
        [ZYDIS_ISA_EXT_BMI2] = IFT_BMI2,        [ZYDIS_ISA_EXT_LZCNT] = IFT_LZCNT,
        [ZYDIS_ISA_EXT_XSAVE] = IFT_XSAVE,      [ZYDIS_ISA_EXT_XSAVEOPT] = IFT_XSAVEOPT,
    };
    switch (c->z.meta.isa_set) {
    case ZYDIS_ISA_SET_SSE42:
        return IFT_SSE42;
    case ZYDIS_ISA_SET_POPCNT:
        return IFT_POPCNT;
    case ZYDIS_ISA_SET_CMPXCHG16B:
        return IFT_CX16;
    case ZYDIS_ISA_SET_FXSAVE:
    case ZYDIS_ISA_SET_FXSAVE64:
        return IFT_SSE;
    default:
        return by_ext[c->z.meta.isa_ext];
    }
}

static bool z_has(const struct cmp *c, uint64_t attributes)
{
    return (c->z.attributes & attributes) != 0;
}

static void compare_attributes(struct cmp *c)
{
    const struct insn_desc *d = c->in.desc;
    unsigned z = 0, ours = d->attr & (IA_PRIV | IA_LOCK | IA_REP | IA_BRANCH);
    if (!c->in.is_mem) {
        ours &= ~IA_LOCK;
    }
    if (z_has(c, ZYDIS_ATTRIB_IS_PRIVILEGED)) {
        z |= IA_PRIV;
    }
    if (z_has(c, ZYDIS_ATTRIB_ACCEPTS_LOCK)) {
        z |= IA_LOCK;
    }
    if (z_has(c,
              ZYDIS_ATTRIB_ACCEPTS_REP | ZYDIS_ATTRIB_ACCEPTS_REPE | ZYDIS_ATTRIB_ACCEPTS_REPNE)) {
        z |= IA_REP;
    }
    if (c->z.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE) {
        z |= IA_BRANCH;
    }
    expect(c, OF_ATTR, z, ours);
    bool implied = d->id == I_XCHG && c->in.is_mem;
    expect(c, OF_ATTR, z_has(c, ZYDIS_ATTRIB_HAS_LOCK) || implied, c->in.lock);
    if ((d->attr & IA_REP) != 0) {
        expect(c, OF_ATTR,
               z_has(c, ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE),
               c->in.rep != 0);
    }
}

static void compare_layout(struct cmp *c)
{
    const struct insn *in = &c->in;
    const ZydisDecodedInstructionRaw *raw = &c->z.raw;
    expect(c, OF_LAYOUT, raw->prefix_count, in->opcode_off);
    expect(c, OF_LAYOUT, z_has(c, ZYDIS_ATTRIB_HAS_MODRM), in->has_modrm);
    expect(c, OF_LAYOUT, c->z.address_width, in->addr16 ? 16 : in->addr32 ? 32 : 64);
    unsigned rex = 0;
    if (z_has(c, ZYDIS_ATTRIB_HAS_REX)) {
        rex = 0x40u | raw->rex.W << 3 | raw->rex.R << 2 | raw->rex.X << 1 | raw->rex.B;
    }
    expect(c, OF_LAYOUT, rex != 0, in->has_rex);
    if (c->z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
        rex = 0x40u | raw->vex.W << 3;
        rex |= c->o->mode != INSN_64 ? 0u : !raw->vex.R << 2 | !raw->vex.X << 1 | !raw->vex.B;
        expect(c, OF_LAYOUT, raw->vex.m_mmmm, in->vex_map);
        expect(c, OF_LAYOUT, raw->vex.pp, in->vex_pp);
        expect(c, OF_LAYOUT, (in->desc->attr & IA_LIG) == 0 && raw->vex.L, in->vex_l);
        expect(c, OF_LAYOUT, raw->vex.offset, in->opcode_off);
    } else {
        expect(c, OF_LAYOUT, 0, in->vex_map);
    }
    expect(c, OF_LAYOUT, rex, in->rex);
    if (in->has_modrm) {
        expect(c, OF_LAYOUT, raw->modrm.offset, in->modrm_off);
        expect(c, OF_LAYOUT, raw->modrm.mod, in->mod);
        expect(c, OF_LAYOUT, raw->modrm.reg, in->reg & 7u);
        expect(c, OF_LAYOUT, raw->modrm.rm, in->rm & 7u);
    }
    expect(c, OF_LAYOUT, raw->disp.size, in->disp_size * 8u);
    expect(c, OF_LAYOUT, raw->disp.offset, in->disp_off);
    unsigned imm_bits = (unsigned)raw->imm[0].size + raw->imm[1].size;
    expect(c, OF_LAYOUT, imm_bits, in->imm_size * 8u);
    if (imm_bits != 0) {
        expect(c, OF_LAYOUT, raw->imm[0].offset, in->imm_off);
    }
    for (unsigned i = 0; i < INSN_MAX_LEN; i++) {
        expect(c, OF_LAYOUT, i < c->z.length ? c->bytes[i] : 0, in->bytes[i]);
    }
}

/* Register number as in insn fields; *width in bytes, *high set for AH CH DH BH. */
static unsigned reg_number(ZydisRegister reg, unsigned *width, bool *high)
{
    *high = reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH;
    *width = ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, reg) / 8u;
    ZydisRegisterClass cls = ZydisRegisterGetClass(reg);
    if (cls >= ZYDIS_REGCLASS_GPR8 && cls <= ZYDIS_REGCLASS_GPR64) {
        reg = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
    }
    return (unsigned)ZydisRegisterGetId(reg);
}

static unsigned mem_reg(ZydisRegister reg)
{
    unsigned width;
    bool high;
    if (reg == ZYDIS_REGISTER_NONE) {
        return INSN_NO_REG;
    }
    if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP) {
        return INSN_REG_RIP;
    }
    return reg_number(reg, &width, &high);
}

static unsigned mem_seg(const struct cmp *c, ZydisRegister reg)
{
    if (c->o->mode != INSN_64) {
        return reg - ZYDIS_REGISTER_ES;
    }
    return reg == ZYDIS_REGISTER_FS ? 4 : reg == ZYDIS_REGISTER_GS ? 5 : INSN_NO_SEG;
}

/* The override, or outside 64-bit mode the segment that the base register implies. */
static unsigned our_seg(const struct cmp *c)
{
    if (c->o->mode == INSN_64 || c->in.seg != INSN_NO_SEG) {
        return c->in.seg;
    }
    return c->in.base == 4 || c->in.base == 5 ? 2 : 3;
}

/* Zydis 4.0.0 takes R13D for "no base" under these conditions, and then drops the displacement. */
static bool zydis_r13d(const struct cmp *c)
{
    const ZydisDecodedInstructionRaw *raw = &c->z.raw;
    return c->o->mode == INSN_64 && c->in.addr32 && c->in.mod == 0 && (c->in.rm & 7u) == 4 &&
           raw->sib.base == 5 && (c->in.rex & 1u) != 0;
}

static void compare_memory(struct cmp *c, const ZydisDecodedOperand *op)
{
    const struct insn *in = &c->in;
    const ZydisDecodedOperandMem *m = &op->mem;
    if (zydis_r13d(c)) {
        expect(c, OF_MEMORY, mem_reg(m->base), in->base);
        return;
    }
    /* biased, so that the known difference above cannot excuse any other wrong base */
    expect(c, OF_MEMORY, mem_reg(m->base) | 0x100u, in->base | 0x100u);
    expect(c, OF_MEMORY, mem_reg(m->index), in->index);
    if (m->index != ZYDIS_REGISTER_NONE) {
        expect(c, OF_MEMORY, m->scale, 1u << in->scale);
    }
    expect(c, OF_MEMORY, m->disp.has_displacement ? (uint64_t)m->disp.value : 0,
           (uint64_t)(int64_t)in->disp);
    uint32_t attr = in->desc->attr;
    if (m->type == ZYDIS_MEMOP_TYPE_AGEN) {
        expect(c, OF_ACCESS, 0, attr & (IA_LOAD | IA_STORE));
        return;
    }
    expect(c, OF_MEMORY, mem_seg(c, m->segment), our_seg(c));
    unsigned access = 0;
    if ((op->actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0) {
        access |= IA_LOAD;
    }
    if ((op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0) {
        access |= IA_STORE;
    }
    expect(c, OF_ACCESS, access, attr & (IA_LOAD | IA_STORE));
    if ((attr & (IA_LOAD | IA_STORE)) != 0) {
        expect(c, OF_MEM_SIZE, op->size / 8u, in->mem_size);
    }
}

static const ZydisDecodedOperand *find_operand(const struct cmp *c, ZydisOperandEncoding encoding)
{
    for (unsigned i = 0; i < c->z.operand_count; i++) {
        if (c->op[i].encoding == encoding) {
            return &c->op[i];
        }
    }
    return NULL;
}

static bool names(const struct insn_desc *d, const uint8_t *kinds, size_t n, unsigned *kind)
{
    for (unsigned i = 0; i < 4; i++) {
        if (d->op[i] != O_NONE && memchr(kinds, d->op[i], n) != NULL) {
            *kind = d->op[i];
            return true;
        }
    }
    return false;
}

/* One register operand: class by operand kind, number, and width of general registers. */
static void compare_register(struct cmp *c, const ZydisDecodedOperand *op, unsigned kind,
                             unsigned number)
{
    if (op->type != ZYDIS_OPERAND_TYPE_REGISTER) {
        differ(c, OF_REG, op->type, kind);
        return;
    }
    const struct insn_desc *d = c->in.desc;
    unsigned width, size = c->in.opsize;
    bool high, our_high = false;
    unsigned z = reg_number(op->reg.value, &width, &high);
    ZydisRegisterClass cls = ZydisRegisterGetClass(op->reg.value), want;
    switch (kind) {
    case O_P:
    case O_Q:
    case O_N:
        want = ZYDIS_REGCLASS_MMX;
        break;
    case O_V:
    case O_W:
    case O_U:
    case O_H:
    case O_L:
        want = ZYDIS_REGCLASS_XMM;
        if (c->in.vex_map != 0 && cls == ZYDIS_REGCLASS_YMM) {
            /* 256 bits of an operand: L says so */
            expect(c, OF_REG, 1, c->in.vex_l);
            want = cls;
        }
        break;
    case O_S:
        want = ZYDIS_REGCLASS_SEGMENT;
        break;
    case O_C:
        want = ZYDIS_REGCLASS_CONTROL;
        break;
    case O_D:
        want = ZYDIS_REGCLASS_DEBUG;
        break;
    default:
        want = cls;
        expect(c, OF_REG, cls >= ZYDIS_REGCLASS_GPR8 && cls <= ZYDIS_REGCLASS_GPR64, 1);
        if (kind == O_E && (d->id == I_MOVZX || d->id == I_MOVSX || d->id == I_MOVSXD)) {
            size = d->mem_size;
        } else if (kind == O_G && d->id == I_CRC32) {
            size = (c->in.rex & 8u) != 0 ? 8 : 4;
        }
        expect(c, OF_REG, width, size);
        if (size == 1 && !c->in.has_rex && number >= 4) {
            our_high = true;
            number -= 4;
        }
        expect(c, OF_REG, high, our_high);
        z -= high && z >= 4 ? 4 : 0;
        break;
    }
    expect(c, OF_REG, cls, want);
    expect(c, OF_REG, z, number);
}

static void compare_operands(struct cmp *c)
{
    static const uint8_t reg_kinds[] = {O_G, O_S, O_C, O_D, O_P, O_V};
    static const uint8_t rm_kinds[] = {O_E, O_M, O_R, O_Q, O_N, O_W, O_U, O_VM};
    static const uint8_t z_kinds[] = {O_Z}, vvvv_kinds[] = {O_H, O_B}, is4_kinds[] = {O_L};
    const struct insn *in = &c->in;
    unsigned kind;
    const ZydisDecodedOperand *op = find_operand(c, ZYDIS_OPERAND_ENCODING_MODRM_REG);
    bool has = names(in->desc, reg_kinds, sizeof(reg_kinds), &kind);
    expect(c, OF_REG, op != NULL, has);
    if (op != NULL && has) {
        compare_register(c, op, kind, in->reg);
    }
    op = find_operand(c, ZYDIS_OPERAND_ENCODING_MODRM_RM);
    has = names(in->desc, rm_kinds, sizeof(rm_kinds), &kind);
    if (op != NULL && in->desc->op[0] == O_ST && op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
        expect(c, OF_REG, (uint64_t)(op->reg.value - ZYDIS_REGISTER_ST0), in->rm);
    } else if (op != NULL && has) {
        if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
            expect(c, OF_MEMORY, 1, in->is_mem);
            compare_memory(c, op);
        } else {
            expect(c, OF_MEMORY, 0, in->is_mem);
            compare_register(c, op, kind, in->rm);
        }
    } else {
        expect(c, OF_REG, op != NULL, has);
    }
    op = find_operand(c, ZYDIS_OPERAND_ENCODING_NDSNDD);
    has = names(in->desc, vvvv_kinds, sizeof(vvvv_kinds), &kind);
    expect(c, OF_REG, op != NULL, has);
    if (op != NULL && has) {
        compare_register(c, op, kind, in->vvvv);
    }
    op = find_operand(c, ZYDIS_OPERAND_ENCODING_IS4);
    has = names(in->desc, is4_kinds, sizeof(is4_kinds), &kind);
    expect(c, OF_REG, op != NULL, has);
    if (op != NULL && has) {
        compare_register(c, op, kind, in->imm >> 4 & (c->o->mode == INSN_64 ? 15 : 7));
    }
    op = find_operand(c, ZYDIS_OPERAND_ENCODING_OPCODE);
    has = names(in->desc, z_kinds, sizeof(z_kinds), &kind);
    if (op != NULL && has) {
        compare_register(c, op, kind, in->rm);
    } else {
        expect(c, OF_REG, op != NULL && op->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT, has);
    }
}

static void compare_immediate(struct cmp *c)
{
    const struct insn *in = &c->in;
    unsigned n = 0;
    for (unsigned i = 0; i < c->z.operand_count; i++) {
        const ZydisDecodedOperand *op = &c->op[i];
        if (op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN) {
            continue;
        }
        if (op->type == ZYDIS_OPERAND_TYPE_MEMORY &&
            op->encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM &&
            names(in->desc, (const uint8_t[]){O_O}, 1, &(unsigned){0})) {
            uint64_t mask = in->addr16   ? UINT16_MAX
                            : in->addr32 ? UINT32_MAX
                                         : UINT64_MAX; /* Zydis sign-extends */
            expect(c, OF_MEMORY, (uint64_t)op->mem.disp.value & mask, in->disp64);
            expect(c, OF_MEMORY, mem_seg(c, op->mem.segment), our_seg(c));
            expect(c, OF_MEM_SIZE, op->size / 8u, in->mem_size);
        }
        if (op->encoding == ZYDIS_OPERAND_ENCODING_IS4) {
            n++;
            continue;
        }
        if (op->type == ZYDIS_OPERAND_TYPE_POINTER) {
            expect(c, OF_IMM, op->ptr.offset, (uint64_t)in->imm);
            expect(c, OF_IMM, op->ptr.segment, (uint64_t)in->imm2);
            n++;
            continue;
        }
        if (op->type != ZYDIS_OPERAND_TYPE_IMMEDIATE ||
            op->encoding == ZYDIS_OPERAND_ENCODING_NONE) {
            continue;
        }
        /* an immediate is as wide as its operand: compare what the operation can see */
        uint64_t ours = (uint64_t)(n++ == 0 ? in->imm : in->imm2);
        uint64_t mask = op->size >= 64 ? UINT64_MAX : (UINT64_C(1) << op->size) - 1;
        if (!names(in->desc, (const uint8_t[]){O_I, O_IB}, 2, &(unsigned){0})) {
            mask = UINT64_MAX;
        }
        expect(c, OF_IMM, op->imm.value.u & mask, ours & mask);
    }
    expect(c, OF_IMM, n != 0, in->imm_size != 0);
}

static void compare_flags(struct cmp *c)
{
    const ZydisAccessedFlags *f = c->z.cpu_flags;
    const struct insn_desc *d = c->in.desc;
    uint32_t z_read = 0, z_undef = 0, z_written = 0;
    if (f != NULL) {
        z_read = f->tested & IF_ALL;
        z_undef = f->undefined & IF_ALL;
        z_written = (f->modified | f->set_0 | f->set_1 | f->undefined) & IF_ALL;
    }
    expect(c, OF_FLAGS_READ, z_read, d->flags_read);
    expect(c, OF_FLAGS_WRITTEN, z_written, d->flags_written);
    expect(c, OF_FLAGS_UNDEFINED, z_undef, d->flags_undefined);
}

/* AVX exception classes: 1 is aligned; 2, 3 and 11 have FP exceptions. */
static void compare_avx_class(struct cmp *c)
{
    const struct insn_desc *d = c->in.desc;
    ZydisExceptionClass cls = c->z.meta.exception_class;
    bool fp = cls == ZYDIS_EXCEPTION_CLASS_AVX2 || cls == ZYDIS_EXCEPTION_CLASS_AVX3 ||
              cls == ZYDIS_EXCEPTION_CLASS_AVX11;
    if (d->id == I_AVX || d->id == I_VMASKMOV || d->id == I_VGATHER) {
        expect(c, OF_FP_ARITH, fp, (d->attr & IA_FP_ARITH) != 0);
        expect(c, OF_ALIGN, c->in.is_mem && cls == ZYDIS_EXCEPTION_CLASS_AVX1,
               c->in.is_mem && (d->attr & IA_ALIGN) != 0);
    }
}

/* SSE exception classes of the SDM: 1, 2 and 4 are aligned, 2 and 3 have FP exceptions. */
static void compare_sse_class(struct cmp *c)
{
    const struct insn_desc *d = c->in.desc;
    ZydisExceptionClass cls = c->z.meta.exception_class;
    if (d->id != I_SSE) {
        return;
    }
    bool fp = cls == ZYDIS_EXCEPTION_CLASS_SSE2 || cls == ZYDIS_EXCEPTION_CLASS_SSE3;
    expect(c, OF_FP_ARITH, fp, (d->attr & IA_FP_ARITH) != 0);
    if (c->in.is_mem) {
        bool aligned = cls == ZYDIS_EXCEPTION_CLASS_SSE1 || cls == ZYDIS_EXCEPTION_CLASS_SSE2 ||
                       cls == ZYDIS_EXCEPTION_CLASS_SSE4;
        expect(c, OF_ALIGN, aligned && d->mem_size == 16, (d->attr & IA_ALIGN) != 0);
    }
}

static void compare_legal(struct cmp *c)
{
    expect(c, OF_LENGTH, c->z.length, c->in.len);
    expect(c, OF_NAME, 1, same_name(c));
    expect(c, OF_FEATURE, feature_of(c), c->in.desc->feature);
    unsigned width = c->z.operand_width / 8u;
    switch (c->in.desc->size) {
    case SZ_Y:
        expect(c, OF_OPSIZE, width < 4 ? 4 : width, c->in.opsize);
        break;
    /* fixed sizes are seen in register widths and memory sizes */
    case SZ_Z:
        expect(c, OF_OPSIZE, width < 4 ? width : 4, c->in.opsize);
        break;
    case SZ_V:
    case SZ_V64:
    case SZ_F64:
        expect(c, OF_OPSIZE, width, c->in.opsize);
        break;
    default:
        break;
    }
    if (c->z.meta.category == ZYDIS_CATEGORY_COND_BR && c->in.desc->id == I_JCC) {
        expect(c, OF_IMM, c->z.opcode & 15u, c->in.cond);
    }
    compare_attributes(c);
    compare_layout(c);
    compare_operands(c);
    compare_immediate(c);
    compare_flags(c);
    compare_sse_class(c);
    compare_avx_class(c);
}

/* Fewer bytes must give the same result or ask for more. */
static void compare_truncated(struct cmp *c)
{
    struct insn part;
    unsigned n = c->in.len;
    for (unsigned i = 0; i < n; i++) {
        enum insn_error e = insn_decode_mode(c->bytes, i, (enum insn_mode)c->o->mode, &part);
        if (e != INSN_TRUNCATED && !(e == c->err && c->err == INSN_UD)) {
            differ(c, OF_TRUNCATED, i, e);
        }
    }
}

void oracle_init(struct oracle *o, uint64_t model, int mode)
{
    static const struct {
        ZydisMachineMode machine;
        ZydisStackWidth stack;
    } modes[] = {
        [INSN_64] = {ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64},
        [INSN_32] = {ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
        [INSN_16] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16},
    };
    static const ZydisDecoderMode off[] = {ZYDIS_DECODER_MODE_MPX, ZYDIS_DECODER_MODE_CET,
                                           ZYDIS_DECODER_MODE_WBNOINVD,
                                           ZYDIS_DECODER_MODE_CLDEMOTE};
    memset(o, 0, sizeof(*o));
    o->model = model;
    o->mode = mode;
    ZydisDecoderInit(&o->decoder, modes[mode].machine, modes[mode].stack);
    for (size_t i = 0; i < sizeof(off) / sizeof(off[0]); i++) {
        ZydisDecoderEnableMode(&o->decoder, off[i], ZYAN_FALSE);
    }
    bool counts = (model & INSN_FEATURE(IFT_BMI1)) != 0;
    ZydisDecoderEnableMode(&o->decoder, ZYDIS_DECODER_MODE_LZCNT, counts);
    ZydisDecoderEnableMode(&o->decoder, ZYDIS_DECODER_MODE_TZCNT, counts);
}

/* What the lifter does with an encoding that the model lacks. */
static void apply_model(struct cmp *c)
{
    if (c->err == INSN_OK && (c->o->model & INSN_FEATURE(c->in.desc->feature)) == 0 &&
        c->in.desc->id != I_TZCNT && c->in.desc->id != I_LZCNT) {
        c->err = INSN_UD;
    }
}

static bool outside_model(const struct cmp *c)
{
    if (c->z.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
        c->z.encoding != ZYDIS_INSTRUCTION_ENCODING_VEX) {
        return true; /* EVEX, XOP, MVEX, 3DNow! */
    }
    return decode_outside_model[c->z.meta.isa_ext] ||
           (c->o->model != INSN_MODEL_V3 && decode_only_v3[c->z.meta.isa_ext]);
}

unsigned oracle_compare(struct oracle *o, const uint8_t *bytes, size_t len)
{
    struct cmp c;
    c.o = o;
    c.bytes = bytes;
    c.len = len;
    ZyanStatus s = ZydisDecoderDecodeFull(&o->decoder, bytes, len < 15 ? len : 15, &c.z, c.op);
    c.z_ok = ZYAN_SUCCESS(s);
    c.err = insn_decode_mode(bytes, len, (enum insn_mode)o->mode, &c.in);
    o->compared++;
    enum insn_error whole = c.err;
    apply_model(&c);
    if (c.z_ok && outside_model(&c)) {
        o->outside_model++;
        if (c.err == INSN_OK) {
            differ(&c, OF_LEGAL_OURS, c.z.meta.isa_ext, 0);
        }
    } else if (c.z_ok && c.err != INSN_OK) {
        differ(&c, OF_LEGAL_ZYDIS, c.z.meta.isa_ext, 0);
    } else if (!c.z_ok && c.err == INSN_OK) {
        differ(&c, OF_LEGAL_OURS, s, 0);
    } else if (c.z_ok) {
        o->legal++;
        compare_legal(&c);
    }
    c.err = whole;
    if ((o->compared & 15u) == 0) {
        compare_truncated(&c);
    }
    if (c.z_ok) {
        return c.z.length;
    }
    return c.err == INSN_OK ? c.in.len : 1;
}

void oracle_report(const struct oracle *o, FILE *out)
{
    fprintf(out, "%llu compared, %llu instructions, %llu outside the model, %llu unexplained\n",
            (unsigned long long)o->compared, (unsigned long long)o->legal,
            (unsigned long long)o->outside_model, (unsigned long long)o->unexplained);
    for (size_t i = 0; i < decode_known_count; i++) {
        fprintf(out, "  known: %-18s %8llu  %s\n", field_names[decode_known[i].field],
                (unsigned long long)o->known_hits[i], decode_known[i].reason);
    }
}
