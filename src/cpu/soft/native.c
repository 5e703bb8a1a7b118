// SPDX-License-Identifier: Apache-2.0
#include "cpu/soft/native.h"

#include "cpu/soft/fpstate.h"
#include "cpu/soft/lift_mem.h"
#include "cpu/soft/stub.h"

/* A stub under construction. Longest: PCMPESTRI with every address part, about 120 bytes. */
struct emit {
    uint8_t b[STUB_MAX_LEN + 16];
    unsigned n;
    unsigned to_slow[2]; /* where 8-bit displacements of branches to the slow path go; 0: none */
    unsigned inner;      /* where the slow path comes back: the operand's host address in rdx */
};

static void put(struct emit *e, uint8_t byte)
{
    e->b[e->n++] = byte;
}

static void put32(struct emit *e, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++) {
        put(e, (uint8_t)(v >> (8 * i)));
    }
}

#define RM_RCX 1
#define RM_RDX 2
#define RM_RDI 7

static bool has_operand(const struct insn *insn, unsigned kind)
{
    return insn->desc->op[0] == kind || insn->desc->op[1] == kind || insn->desc->op[2] == kind;
}

uint8_t native_kept_prefix(const struct insn *insn)
{
    uint8_t rep = 0;
    bool size16 = false;
    for (unsigned i = 0; i < insn->opcode_off; i++) {
        uint8_t b = insn->bytes[i];
        if (b == 0xf2 || b == 0xf3) {
            rep = b;
        }
        size16 |= b == 0x66;
    }
    if (rep != 0 && insn->rep == REP_NONE) {
        return rep;
    }
    return size16 && (insn->desc->attr & IA_NO66) == 0 && insn->desc->id != I_X87 ? 0x66 : 0;
}

/* Where the operands of an instruction are in its stub. */
struct placed {
    uint8_t mod, reg, rm;
    uint8_t rex;   /* W R B; the index is gone */
    bool gpr_slot; /* ModRM.rm is a general register's slot in memory */
};

/* mem_rm: base register of a memory operand. */
static struct placed place(const struct insn *insn, unsigned mem_rm)
{
    uint32_t attr = insn->desc->attr;
    uint8_t modrm = insn->modrm_off != 0 ? insn->bytes[insn->modrm_off] : 0;
    struct placed p = {.mod = modrm >> 6,
                       .reg = (modrm >> 3) & 7,
                       .rm = modrm & 7,
                       .rex = insn->rex & 0x0d,
                       .gpr_slot = !insn->is_mem && (attr & IA_GRM_SRC) != 0};
    if (insn->desc->id == I_X87) {
        p.rex = 0;
    }
    if (insn->mode != INSN_64 && insn->desc->size == SZ_Y) { /* VEX.W chooses no register there */
        p.rex &= ~8;
    }
    if ((attr & IA_GREG_DST) != 0) {
        p.reg = 0;
        p.rex &= ~4;
    }
    if (insn->is_mem) {
        p.mod = 0;
        p.rm = (uint8_t)mem_rm;
        p.rex &= ~1;
    } else if (p.gpr_slot) {
        p.mod = 1;
        p.rm = RM_RDI;
        p.rex &= ~1;
    } else if ((attr & IA_GRM_DST) != 0) {
        p.rm = 0;
        p.rex &= ~1;
    }
    return p;
}

/* Prefixes and opcode, legacy or VEX. */
static void put_opcode(struct emit *e, const struct insn *insn, const struct placed *p)
{
    unsigned opcode_end = insn->has_modrm ? insn->modrm_off : insn->len - insn->imm_size;
    if (insn->vex_map != 0) {
        put(e, 0xc4);
        put(e, (uint8_t)((~p->rex & 5) << 5 | 0x40 | insn->vex_map));
        put(e, (uint8_t)((p->rex & 8) << 4 | (~insn->vvvv & 15) << 3 | insn->vex_l << 2 |
                         insn->vex_pp));
        put(e, insn->bytes[opcode_end - 1]);
        return;
    }
    uint8_t prefix = native_kept_prefix(insn);
    if (prefix != 0) {
        put(e, prefix);
    }
    if (p->rex != 0) {
        put(e, 0x40 | p->rex);
    }
    for (unsigned i = insn->opcode_off; i < opcode_end; i++) {
        put(e, insn->bytes[i]);
    }
}

/* The instruction with its operands moved to where the stub finds them. */
static void put_insn(struct emit *e, const struct insn *insn, unsigned mem_rm)
{
    struct placed p = place(insn, mem_rm);
    put_opcode(e, insn, &p);
    if (insn->has_modrm) {
        put(e, (uint8_t)(p.mod << 6 | p.reg << 3 | p.rm));
    }
    if (p.gpr_slot) {
        put(e, (uint8_t)(insn->rm * 8)); /* disp8 of cpu->gpr[rm] */
    }
    for (unsigned i = 0; i < insn->imm_size; i++) {
        /* the register number of an immediate: eight registers outside 64-bit mode */
        bool is4 = insn->mode != INSN_64 && has_operand(insn, O_L);
        put(e, insn->bytes[insn->imm_off + i] & (is4 ? 0x7f : 0xff));
    }
}
_Static_assert(offsetof(struct soft_cpu, gpr) == 0, "stubs reach gpr[] by an 8-bit displacement");
_Static_assert(sizeof(((struct soft_cpu *)0)->flags) == 2, "stubs store AX there");

static void put_flags_in(struct emit *e)
{
    put(e, 0x0f); /* movzx eax, word [rdi + flags] */
    put(e, 0xb7);
    put(e, 0x87);
    put32(e, offsetof(struct soft_cpu, flags));
    put(e, 0x04); /* add al, 127: OF */
    put(e, 0x7f);
    put(e, 0x9e); /* sahf */
}

static void put_flags_out(struct emit *e)
{
    put(e, 0x9f); /* lahf */
    put(e, 0x0f); /* seto al */
    put(e, 0x90);
    put(e, 0xc0);
    put(e, 0x66); /* mov [rdi + flags], ax */
    put(e, 0x89);
    put(e, 0x87);
    put32(e, offsetof(struct soft_cpu, flags));
}

/* mov [rdi + 8 * gpr], reg or mov reg, [rdi + 8 * gpr] */
static void put_gpr(struct emit *e, uint8_t opcode, uint8_t reg, uint8_t gpr)
{
    put(e, 0x48);
    put(e, opcode);
    put(e, 0x47 | reg << 3);
    put(e, (uint8_t)(gpr * 8));
}

static void put_dispatch(struct emit *e)
{
#ifdef SOFT_TAILCALL
    put(e, 0x48); /* add rsi, sizeof(struct op) */
    put(e, 0x83);
    put(e, 0xc6);
    put(e, sizeof(struct op));
    put(e, 0xff); /* jmp [rsi] */
    put(e, 0x26);
#else
    put(e, 0x48); /* lea rax, [rsi + sizeof(struct op)] */
    put(e, 0x8d);
    put(e, 0x46);
    put(e, sizeof(struct op));
    put(e, 0xc3); /* ret */
#endif
}
_Static_assert(offsetof(struct op, handler) == 0, "stubs jump through [op]");

#define OP_STORE_R64 0x89
#define OP_LOAD_R64 0x8b

static void put_bytes(struct emit *e, const char *bytes, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        put(e, (uint8_t)bytes[i]);
    }
}
#define PUT(e, literal) put_bytes(e, literal, sizeof(literal) - 1)

/* rax = effective address. Only the displacement is left to the operation, so that places in the
 * guest that differ by nothing else share the stub. */
static void put_address(struct emit *e, const struct insn *insn, const struct op *op)
{
    PUT(e, "\x48\x8b\x46"); /* mov rax, [rsi + disp] */
    put(e, offsetof(struct op, disp));
    if (op->base != SOFT_ZERO_REG) {
        PUT(e, "\x48\x03"); /* add rax, [rdi + 8 * base] */
        put(e, op->base < 16 ? 0x47 : 0x87);
        if (op->base < 16) {
            put(e, (uint8_t)(op->base * 8));
        } else {
            put32(e, op->base * 8u);
        }
    }
    if (op->index != SOFT_ZERO_REG) {
        put_gpr(e, OP_LOAD_R64, R_CX, op->index);
        if ((op->scale_seg & 3) != 0) {
            PUT(e, "\x48\xc1\xe1"); /* shl rcx, scale */
            put(e, op->scale_seg & 3);
        }
        PUT(e, "\x48\x01\xc8"); /* add rax, rcx */
    }
    if (lift_addr32(insn)) {
        PUT(e, "\x89\xc0"); /* mov eax, eax */
    }
    if (op->scale_seg >> 4 != LIFT_NO_SEG) {
        PUT(e, "\x48\x03\x87"); /* add rax, [rdi + seg_base[seg]] */
        put32(e, (uint32_t)(offsetof(struct soft_cpu, seg_base) + 8u * (op->scale_seg >> 4)));
    }
}

/* rdx = host address for an access of size bytes at rax, as tlb_probe(), or on to the slow path. */
static void put_probe(struct emit *e, unsigned size, bool store, bool align)
{
    e->to_slow[0] = 0;
    if (align) {
        put(e, 0xa8); /* test al, size - 1; jne slow */
        put(e, (uint8_t)(size - 1));
        PUT(e, "\x75\x00");
        e->to_slow[0] = e->n - 1;
    }
    PUT(e, "\x89\xc1\xc1\xe9\x08\x81\xe1"); /* mov ecx, eax; shr ecx, 8; and ecx, imm32 */
    put32(e, (SOFT_TLB_SIZE - 1) * sizeof(struct soft_tlb_entry));
    PUT(e, "\x48\x03\x8f"); /* add rcx, [rdi + tlb] */
    put32(e, store ? offsetof(struct soft_cpu, tlb_write) : offsetof(struct soft_cpu, tlb_read));
    PUT(e,
        "\x48\x89\xc2\x48\x2b\x11\x48\x81\xfa"); /* mov rdx, rax; sub rdx, [rcx]; cmp rdx, imm32 */
    put32(e, 4096 - size);
    PUT(e, "\x77\x00"); /* ja slow */
    e->to_slow[1] = e->n - 1;
    PUT(e, "\x48\x03\x51\x08"); /* add rdx, [rcx + 8] */
}
_Static_assert(sizeof(struct soft_tlb_entry) == 16, "page number * 16 by one shift");
_Static_assert(offsetof(struct soft_tlb_entry, tag) == 0, "stubs know the layout");
_Static_assert(offsetof(struct soft_tlb_entry, host) == 8, "stubs know the layout");

/* The way out of put_probe(): call slow(cpu, op, address) in our place. */
static void put_slow_exit(struct emit *e, native_slow slow)
{
    for (unsigned i = 0; i < 2; i++) {
        if (e->to_slow[i] != 0) {
            e->b[e->to_slow[i]] = (uint8_t)(e->n - e->to_slow[i] - 1);
        }
    }
    uint64_t at = (uint64_t)(uintptr_t)slow;
    PUT(e, "\x48\x89\xc2\x48\xb8"); /* mov rdx, rax; mov rax, imm64 */
    put32(e, (uint32_t)at);
    put32(e, (uint32_t)(at >> 32));
    PUT(e, "\xff\xe0"); /* jmp rax */
}

/* VMASKMOVPD: opcodes with bit 0; VPMASKMOVQ: W. */
static unsigned vmask_element(const struct insn *insn)
{
    uint8_t opcode = insn->bytes[insn->modrm_off - 1];
    bool wide = opcode < 0x80 ? (opcode & 1) != 0 : (insn->rex & 8) != 0;
    return wide ? 8 : 4;
}

static void build_stub(struct emit *e, const struct insn *insn, const struct op *op)
{
    uint32_t attr = insn->desc->attr;
    bool store = (attr & IA_STORE) != 0;
    unsigned mem_rm = RM_RDX;
    if (insn->is_mem) {
        put_address(e, insn, op);
        put_probe(e, insn->mem_size, store, (attr & IA_ALIGN) != 0);
    }
    e->inner = e->n;
    if ((attr & IA_RAXRDX_IN) != 0) {
        PUT(e, "\x48\x89\xd1"); /* mov rcx, rdx */
        mem_rm = RM_RCX;
        put_gpr(e, OP_LOAD_R64, R_AX, R_AX);
        put_gpr(e, OP_LOAD_R64, R_DX, R_DX);
    }
    /* FCOMI leaves the flags alone when it raises an unmasked exception. */
    if ((attr & IA_FLAGSRC) != 0 || ((attr & IA_EFLAGS) != 0 && insn->desc->id == I_X87)) {
        put_flags_in(e);
    }
    put_insn(e, insn, mem_rm);
    if ((attr & IA_EFLAGS) != 0) {
        put_flags_out(e);
    }
    if ((attr & IA_RCX_OUT) != 0) {
        put_gpr(e, OP_STORE_R64, R_CX, R_CX);
    } else if (op->dst != SOFT_ZERO_REG) {
        put_gpr(e, OP_STORE_R64, R_AX, op->dst);
    }
    put_dispatch(e);
    if (insn->desc->id == I_VMASKMOV) {
        put_slow_exit(e, native_vmask_slow_path(store, vmask_element(insn)));
    } else if (insn->is_mem) {
        put_slow_exit(e, native_slow_path(store, (attr & IA_ALIGN) != 0));
    }
}

/* MASKMOV: data (ModRM.reg) to bounce[0], mask (ModRM.rm) to bounce[16]. */
static void build_maskmov_stub(struct emit *e, const struct insn *insn, bool xmm)
{
    const uint8_t regs[2] = {insn->reg, insn->rm};
    for (unsigned i = 0; i < 2; i++) {
        if (xmm) {
            put(e, 0xf3); /* movdqu [rdi + disp], xmm */
            if ((regs[i] & 8) != 0) {
                put(e, 0x44);
            }
        }
        put(e, 0x0f); /* movq [rdi + disp], mm */
        put(e, 0x7f);
        put(e, (uint8_t)(0x87 | (regs[i] & 7) << 3));
        put32(e, (uint32_t)(offsetof(struct soft_cpu, bounce) + 16 * i));
    }
    put_dispatch(e);
}

static int lift_stub(struct soft_cpu *cpu, const struct insn *insn, struct op *op)
{
    struct emit e;
    e.n = 0;
    uint32_t attr = insn->desc->attr;
    bool maskmov = insn->desc->id == I_MASKMOV;
    bool xmm = has_operand(insn, O_U) || has_operand(insn, O_V);
    if ((attr & IA_GREG_DST) != 0) {
        op->dst = insn->reg;
    } else if ((attr & IA_GRM_DST) != 0 && !insn->is_mem) {
        op->dst = insn->rm;
    } else if ((attr & IA_RCX_OUT) != 0) {
        op->dst = R_CX;
    }
    if (maskmov) {
        build_maskmov_stub(&e, insn, xmm);
    } else {
        build_stub(&e, insn, op);
    }
    const void *stub = stub_add(soft_stubs(cpu), e.b, e.n);
    if (stub == NULL) {
        return -1;
    }
    op->imm = (uint64_t)(uintptr_t)stub;
    op->handler = (op_handler)(uintptr_t)stub;
    if (maskmov) {
        op->handler = native_maskmov_handler(xmm ? 16 : 8, insn->addr32);
    } else if (insn->is_mem) {
        op->src = (uint8_t)insn->mem_size;
        op->imm += e.inner;
        if (insn->desc->id == I_VMASKMOV) {
            op->dst = insn->vvvv;
        }
    }
    return 0;
}

/* The NC_* of an instruction, whatever the mode. */
static uint32_t lift_checks(const struct insn *insn)
{
    if (insn->vex_map != 0) {
        bool arith = (insn->desc->attr & IA_FP_ARITH) != 0;
        bool store = insn->is_mem && (insn->desc->attr & IA_STORE) != 0;
        return NC_AVX | (arith ? NC_XM : 0) | (arith && store ? NC_STORE : 0) |
               (lift_addr32(insn) ? NC_ADDR32 : 0);
    }
    bool xmm = has_operand(insn, O_V) || has_operand(insn, O_U) || has_operand(insn, O_W);
    uint32_t arith = (insn->desc->attr & IA_FP_ARITH) != 0 ? NC_XM : 0;
    switch (insn->desc->id) {
    case I_FXSAVE:
    case I_FXRSTOR:
        return NC_FXSR;
    case I_XSAVE:
    case I_XSAVEOPT:
    case I_XRSTOR:
        return NC_XSAVE;
    case I_LDMXCSR:
    case I_STMXCSR:
        return NC_SSE;
    case I_FWAIT:
        return NC_WAIT | NC_ES;
    case I_EMMS:
        return NC_MMX | NC_ES;
    case I_MMX:
        if (xmm && arith == 0 && insn->is_mem) {
            return NC_SSE; /* CVTPI2PD from memory: no x87 state involved (SDM) */
        }
        return (xmm ? NC_SSE : NC_MMX) | NC_ES | arith;
    case I_SSE:
        return NC_SSE | arith;
    case I_MASKMOV:
        return xmm ? NC_SSE : NC_MMX | NC_ES;
    case I_FLDCW:
    case I_FLDENV:
    case I_FRSTOR:
        return NC_X87 | NC_ES;
    case I_FNSTCW:
    case I_FNSTSW_MEM:
    case I_FNSTSW_AX:
    case I_FNSTENV:
    case I_FNSAVE:
    case I_FNINIT:
    case I_FNCLEX:
        return NC_X87;
    default:
        return NC_X87 | (insn->desc->attr & IA_X87_NOWAIT ? 0 : NC_ES);
    }
}

/* Does the current mode make any of these checks matter? */
static bool checks_needed(uint32_t mode, uint32_t checks)
{
    unsigned class = checks & NC_CLASS;
    return (mode & MODE_FP_OFF) != 0 ||
           ((mode & MODE_AVX_OFF) != 0 && (class == NC_AVX || class == NC_XSAVE)) ||
           ((mode & MODE_X87_TRAP) != 0 && (checks & NC_ES) != 0) ||
           ((mode & MODE_SSE_TRAP) != 0 && (checks & NC_XM) != 0);
}

int native_lift(struct soft_cpu *cpu, const struct insn *insn, uint64_t next_rip, struct op *op)
{
    op->base = SOFT_ZERO_REG;
    op->index = SOFT_ZERO_REG;
    op->scale_seg = LIFT_NO_SEG << 4;
    op->disp = 0;
    op->imm = 0;
    op->dst = SOFT_ZERO_REG;
    op->src = 0;
    if (insn->is_mem) {
        lift_mem(insn, next_rip, op);
    } else if (insn->desc->id == I_MASKMOV) {
        op->base = insn->base == SOFT_EA_REG ? SOFT_EA_REG : R_DI; /* checked: ops_legacy.c */
        if (insn->seg != INSN_NO_SEG) {
            op->scale_seg = (uint8_t)(insn->seg << 4);
        }
    }
    if (insn->desc->id <= I_FNCLEX) {
        op->handler = fpstate_handler(insn, op);
    } else if (insn->desc->id == I_VGATHER) {
        op->handler = native_gather_handler(insn, op);
    } else if (lift_stub(cpu, insn, op) != 0) {
        return -1;
    }
    uint32_t checks = lift_checks(insn);
    if (checks_needed(cpu->mode, checks)) {
        struct native_wrap w = {.inner = op->handler, .imm = op->imm, .checks = checks};
        const void *at = stub_add(soft_stubs(cpu), &w, sizeof(w));
        if (at == NULL) {
            return -1;
        }
        op->handler = native_checked_handler();
        op->imm = (uint64_t)(uintptr_t)at;
    }
    return 0;
}
