// SPDX-License-Identifier: Apache-2.0
#include "oracle_diff.h"

#include <Zydis/Zydis.h>
#include <inttypes.h>
#include <string.h>

#include "cpu/soft/cpu.h"
#include "cpu/soft/insn.h"
#include "oracle_gen.h"

#define FX_XMM 160 /* in an FXSAVE image */

/* The instruction that the trap is at or, for the last one, behind. */
static unsigned insn_at(const struct oc_case *c, uint64_t rip, struct insn *out)
{
    unsigned off = 0, k = 0;
    while (k + 1 < c->n_insns && rip >= c->rip + off + c->insn_len[k]) {
        off += c->insn_len[k++];
    }
    if (insn_decode(c->pool + off, c->insn_len[k], out) != INSN_OK) {
        memset(out, 0, sizeof *out);
    }
    return k;
}

static bool completed(const struct oc_result *r)
{
    return r->trap == V_DB || r->trap == V_BP;
}

static bool is(const struct insn *i, unsigned id)
{
    return i->desc && i->desc->id == id;
}

/* ---- the extra masks: every difference that is not a bug, with its reason */

/* What of a shift's undefined flags is undefined for the count it had. */
static unsigned shift_undefined(const struct oc_case *c)
{
    struct insn i;
    insn_at(c, c->rip, &i);
    if (!i.desc || i.desc->id < I_ROL || i.desc->id > I_SHRD) {
        return ~0u;
    }
    enum insn_operand kind = i.desc->op[i.desc->op[2] == O_NONE ? 1 : 2];
    unsigned bits = i.opsize * 8u;
    unsigned count = kind == O_CL ? (unsigned)c->gpr[R_CX] : kind == O_1 ? 1 : (unsigned)i.imm;
    count &= bits == 64 ? 63 : 31;
    if (count == 0) {
        return 0;
    }
    return count == 1 ? IF_AF : count < bits ? ~IF_CF : ~0u;
}

static uint64_t flags_mask(const struct oc_case *c, const struct oc_result *r, const struct insn *i)
{
    uint64_t undefined = 0;
    unsigned len = c->patch[0].len;
    if (completed(r) || r->rip == c->rip + len) { /* or the next fetch failed */
        undefined = c->undefined;
        undefined &= c->n_insns == 1 ? shift_undefined(c) : ~0u;
    } else if (c->n_insns > 1 || r->trap == V_DE) { /* DIV leaves them undefined by a fault, too */
        undefined = c->ever_undefined;
    }
    return ~undefined;
}

static uint64_t err_mask(const struct oc_result *host)
{
    /* Linux pretends that a page was present in the kernel's half, to tell user space nothing. */
    return host->trap == V_PF && host->cr2 >= 0x7ffffffff000 ? ~1ull : ~0ull;
}

/* Halves of the 16 vector registers. A gather that faults may have widened the sign bits of its
 * mask: the rest of the elements does not matter. */
static bool same_vectors(const struct insn *i, const uint8_t *soft, const uint8_t *host,
                         uint64_t trap)
{
    for (unsigned k = 0; k < 256; k++) {
        bool mask = is(i, I_VGATHER) && trap != V_DB && trap != V_BP && k / 16 == i->vvvv;
        uint8_t bits = !mask ? 0xff : (k + 1) % i->mem_size == 0 ? 0x80 : 0;
        if (((soft[k] ^ host[k]) & bits) != 0) {
            return false;
        }
    }
    return true;
}

static bool same_fx(const struct oc_case *c, const struct insn *i, const struct oc_result *soft,
                    const struct oc_result *host)
{
    for (unsigned k = 0; k < OC_FX; k++) {
        uint8_t a = soft->fx[k], b = host->fx[k];
        if (k >= 28 && k < 32) {
            continue; /* MXCSR_MASK is the model's, not a register */
        }
        if (k >= 6 && k < 24) {
            b = 0; /* instruction and data pointers are not kept: the model says so by CPUID */
        }
        if (k == 24 && host->trap == V_XM && i->desc &&
            (strstr(i->desc->name, "dpp") != NULL || ((a ^ b) & ~0x20) == 0)) {
            /* DPPx stops at the step that traps; a trapped underflow or overflow rounds as if the
             * exponent had no limits, so it may be exact where a masked one is not. */
            continue;
        }
        if (host->trap == V_XM && is(i, I_MMX) && k < 160 && (k < 6 || k >= 32)) {
            continue; /* whether the change to MMX state precedes #XM is the processor's business */
        }
        if (a != b && k < FX_XMM) {
            return false;
        }
    }
    return same_vectors(i, soft->fx + FX_XMM, host->fx + FX_XMM, host->trap) &&
           same_vectors(i, soft->ymm, host->ymm, host->trap);
}

static bool canonical(uint64_t va)
{
    return (uint64_t)((int64_t)(va << 16) >> 16) == va;
}

/* The address of the memory operand before the segment base is added. */
static uint64_t offset_of(const struct insn *i, const uint64_t *gpr, uint64_t next_rip)
{
    uint64_t ea = (uint64_t)(int64_t)i->disp;
    if (i->desc->id >= I_MOVS && i->desc->id <= I_OUTS) {
        ea = gpr[R_SI];
    } else if (i->desc->id == I_XLAT) {
        ea = gpr[R_BX] + (gpr[R_AX] & 0xff);
    } else if (i->desc->id == I_MASKMOV) {
        ea = gpr[R_DI];
    } else if (!i->is_mem) {
        ea = i->disp64;
    } else {
        ea += i->base < 16 ? gpr[i->base] : i->base == INSN_REG_RIP ? next_rip : 0;
        ea += i->index < 16 ? gpr[i->index] << i->scale : 0;
        if (i->desc->id >= I_BT && i->desc->id <= I_BTC && i->desc->op[1] == O_G) {
            int64_t bit = (int64_t)(gpr[i->reg] << (64 - 8 * i->opsize)) >> (64 - 8 * i->opsize);
            ea += (uint64_t)(bit >> 3 & -(int64_t)i->opsize);
        }
    }
    return i->addr32 ? (uint32_t)ea : ea;
}

/* Where the memory operand of a case's only instruction is. */
static uint64_t linear_of(const struct oc_case *c, const struct insn *i)
{
    uint64_t base = i->seg == SEG_FS ? OC_FS_BASE : i->seg == SEG_GS ? OC_GS_BASE : 0;
    return offset_of(i, c->gpr, c->rip + i->len) + base;
}

static bool faulted_on_memory(const struct oc_result *r)
{
    return r->trap == V_PF || r->trap == V_GP || r->trap == V_SS;
}

/* CMPS and CALL with two memory operands that both fault (or a target that does): which is looked
 * at first is the processor's choice; likewise the parts of a state image. */
static bool either_fault(const struct oc_case *c, const struct insn *i,
                         const struct oc_result *soft, const struct oc_result *host)
{
    bool image = (is(i, I_XSAVE) || is(i, I_XSAVEOPT) || is(i, I_XRSTOR) || is(i, I_FXSAVE) ||
                  is(i, I_FXRSTOR) || is(i, I_FLDENV) || is(i, I_FNSTENV) || is(i, I_FRSTOR) ||
                  is(i, I_FNSAVE)) &&
                 (linear_of(c, i) & 0xfff) + i->mem_size > OC_PAGE;
    bool bcd = is(i, I_X87) && i->is_mem && i->mem_size == 10; /* two accesses */
    return (is(i, I_CMPS) || is(i, I_CALL_RM) || image || bcd) && faulted_on_memory(soft) &&
           faulted_on_memory(host);
}

/* AMD faults for bytes that the mask excludes, too, and decodes UD0 and UD1 without their operands.
 */
static bool amd_faults(const struct insn *i, const struct oc_result *soft,
                       const struct oc_result *host)
{
    return (is(i, I_MASKMOV) && faulted_on_memory(host)) ||
           (is(i, I_UD) && host->trap == V_UD && soft->trap == V_PF && (soft->err & 16));
}

/* AMD wants the address canonical before the segment base is added, too; Intel and the engine look
 * at the sum only. */
static bool segment_wraps(const struct insn *i, const struct oc_result *host)
{
    if (i->seg == INSN_NO_SEG || !i->desc || !faulted_on_memory(host) || host->trap == V_PF) {
        return false;
    }
    uint64_t ea = offset_of(i, host->gpr, host->rip + i->len);
    return !canonical(ea) || !canonical(ea + i->mem_size);
}

/* AMD does not look at pending x87 exceptions before CVTPI2PS from memory; Intel does, and so does
 * the engine. */
static bool pending_ignored(const struct insn *i, const struct oc_result *soft,
                            const struct oc_result *host)
{
    return i->desc && strcmp(i->desc->name, "cvtpi2ps") == 0 && i->is_mem && soft->trap == V_MF &&
           (host->trap != V_MF || host->rip != soft->rip);
}

/* A gather under TF that would fault after some elements: the trap for those may come first (SDM,
 * VGATHER; AMD does so), with RIP still at the instruction. */
static bool gather_stepped(const struct insn *i, const struct oc_result *soft,
                           const struct oc_result *host)
{
    return is(i, I_VGATHER) && host->trap == V_DB && faulted_on_memory(soft) &&
           host->rip == soft->rip;
}

/* A masked move at the edge of a 32-bit address space: AMD wraps the address of each element, the
 * engine that of the operand only, as the processor documents for other operands. */
static bool elements_wrap(const struct insn *i, const struct oc_result *soft,
                          const struct oc_result *host)
{
    return is(i, I_VMASKMOV) && i->addr32 && soft->cr2 - host->cr2 == 1ull << 32;
}

/* Microcode touches state images in an order of its own: only the page is architectural. */
static uint64_t address_mask(const struct insn *i)
{
    return i->desc && i->desc->id >= I_FXSAVE && i->desc->id <= I_FNCLEX ? ~0xfffull : ~0ull;
}

/* Bytes of a state image in memory that hold FPU pointers or MXCSR_MASK: the same reasons as in
 * same_fx(). */
static bool byte_ignored(const struct insn *i, uint64_t at)
{
    if (is(i, I_FXSAVE) || is(i, I_XSAVE) || is(i, I_XSAVEOPT)) {
        return (at >= 6 && at < 24) || (at >= 28 && at < 32);
    }
    if (is(i, I_FNSTENV) || is(i, I_FNSAVE)) {
        return i->opsize == 2 ? at >= 6 && at < 14 : at >= 12 && at < 26;
    }
    return false;
}

static uint64_t word_of(const struct oc_result *r, uint32_t off, uint64_t background)
{
    for (unsigned k = 0; k < r->n_diffs; k++) {
        if (r->diff[k].off == off) {
            return r->diff[k].value;
        }
    }
    return background;
}

static bool same_words(const struct oc_case *c, const struct insn *i, const uint8_t *pristine,
                       const struct oc_result *from, const struct oc_result *other)
{
    int64_t flat = oc_flat(linear_of(c, i));
    for (unsigned k = 0; k < from->n_diffs; k++) {
        uint64_t background, x;
        memcpy(&background, pristine + from->diff[k].off, 8);
        x = from->diff[k].value ^ word_of(other, from->diff[k].off, background);
        for (unsigned b = 0; b < 8; b++) {
            if ((x >> (8 * b) & 0xff) &&
                !byte_ignored(i, (uint64_t)((int64_t)from->diff[k].off + b - flat))) {
                return false;
            }
        }
    }
    return true;
}

static bool same_memory(const struct oc_case *c, const struct insn *i, const uint8_t *pristine,
                        const struct oc_result *soft, const struct oc_result *host)
{
    if (soft->mem_hash == host->mem_hash) {
        return true;
    }
    return i->desc && c->n_insns == 1 && soft->n_diffs <= OC_DIFFS && host->n_diffs <= OC_DIFFS &&
           same_words(c, i, pristine, soft, host) && same_words(c, i, pristine, host, soft);
}

/* What a run left at `rip`, where code may have changed itself. */
static bool code_now(const uint8_t *pristine, const struct oc_result *r, uint64_t rip,
                     uint8_t code[static INSN_MAX_LEN])
{
    int64_t flat = oc_flat(rip);
    for (unsigned k = 0; flat >= 0 && k < INSN_MAX_LEN; k++) {
        uint32_t at = ((uint32_t)flat + k) % OC_IMAGE;
        uint64_t background;
        memcpy(&background, pristine + (at & ~7u), 8);
        code[k] = (uint8_t)(word_of(r, at & ~7u, background) >> at % 8 * 8);
    }
    return flat >= 0;
}

/* The instruction that the host stopped at, as its memory is now. Where it did not stop short, or
 * nothing can be decoded, as insn_at(). */
static bool insn_now(const struct oc_case *c, const uint8_t *pristine, const struct oc_result *host,
                     struct insn *out)
{
    uint8_t code[INSN_MAX_LEN];
    if (!completed(host) && code_now(pristine, host, host->rip, code) &&
        insn_decode(code, sizeof code, out) == INSN_OK) {
        return true;
    }
    insn_at(c, host->rip, out);
    return false;
}

/* Code that changed itself into an instruction that is never generated: what stopped there, or was
 * read by it, may be the host's kernel or hypervisor, not its CPU. */
static bool became_excluded(const struct insn *i, const struct oc_result *soft,
                            const struct oc_result *host)
{
    return soft->rip == host->rip && gen_excluded(INSN_MODEL_V3, i->desc);
}

/* The same where it completed; and a REP that stores over its own bytes, which a processor may
 * fetch again at any iteration (SDM vol. 3, 8.1.3: unsynchronised). */
static bool passed_changed_code(const struct oc_case *c, const uint8_t *pristine,
                                const struct oc_result *host)
{
    unsigned off = 0;
    if (host->n_diffs > OC_DIFFS) {
        return false; /* not all that it changed is known */
    }
    for (unsigned k = 0; k < c->n_insns; off += c->insn_len[k++]) {
        uint8_t code[INSN_MAX_LEN];
        struct insn was, is_now;
        if (!code_now(pristine, host, c->rip + off, code) ||
            memcmp(code, c->pool + off, c->insn_len[k]) == 0) {
            continue;
        }
        bool rep = insn_decode(c->pool + off, c->insn_len[k], &was) == INSN_OK && was.rep &&
                   (is(&was, I_MOVS) || is(&was, I_STOS));
        if (rep || (insn_decode(code, sizeof code, &is_now) == INSN_OK &&
                    gen_excluded(INSN_MODEL_V3, is_now.desc))) {
            return true;
        }
    }
    return false;
}

/* A near branch with a 66 prefix, which is never generated: AMD makes RIP 16 bits wide, Intel and
 * the engine ignore the prefix (SDM vol. 2, Jcc). */
static bool branch_truncated(const struct oc_result *soft, const struct oc_result *host)
{
    return host->trap == V_PF && (host->err & 16) && host->rip < 0x10000 && soft->rip != host->rip;
}

/* XRSTOR where the area's AVX part is not there, and the header says that it is not to be read: AMD
 * faults all the same. SDM vol. 1, 13.8 leaves it open. */
static bool xrstor_probes(const struct oc_case *c, const struct insn *i,
                          const struct oc_result *soft, const struct oc_result *host)
{
    return is(i, I_XRSTOR) && host->trap == V_PF && soft->trap != V_PF &&
           host->cr2 - (linear_of(c, i) + 576) < 256;
}

static const char *difference(const struct oc_case *c, const uint8_t *pristine,
                              const struct oc_result *soft, const struct oc_result *host)
{
    struct insn i;
    insn_at(c, soft->rip, &i);
    if (pending_ignored(&i, soft, host)) {
        return NULL;
    }
    bool now = insn_now(c, pristine, host, &i);
    if (amd_faults(&i, soft, host) || segment_wraps(&i, host) || gather_stepped(&i, soft, host) ||
        (now && became_excluded(&i, soft, host)) || branch_truncated(soft, host) ||
        xrstor_probes(c, &i, soft, host)) {
        return NULL;
    }
    if (soft->trap != host->trap && !either_fault(c, &i, soft, host)) {
        return "trap";
    }
    if (soft->rip != host->rip) {
        return "rip";
    }
    if (((soft->err ^ host->err) & err_mask(host)) && !either_fault(c, &i, soft, host)) {
        return "error code";
    }
    if (soft->trap == V_PF && ((soft->cr2 ^ host->cr2) & address_mask(&i)) &&
        !either_fault(c, &i, soft, host) && !elements_wrap(&i, soft, host)) {
        return "fault address";
    }
    if (memcmp(soft->gpr, host->gpr, sizeof soft->gpr) != 0) {
        return "registers";
    }
    if ((soft->rflags ^ host->rflags) & flags_mask(c, host, &i)) {
        return "flags";
    }
    if (!same_fx(c, &i, soft, host)) {
        return "fp state";
    }
    return same_memory(c, &i, pristine, soft, host) ? NULL : "memory";
}

const char *oracle_differ(const struct oc_case *c, const uint8_t *pristine,
                          const struct oc_result *soft, const struct oc_result *host)
{
    const char *what = difference(c, pristine, soft, host);
    return what && passed_changed_code(c, pristine, host) ? NULL : what;
}

/* ---- showing a case */

static void show_code(FILE *out, const struct oc_case *c)
{
    ZydisDecoder decoder;
    ZydisFormatter formatter;
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    unsigned off = 0;
    for (unsigned k = 0; k < c->n_insns; k++) {
        ZydisDecodedInstruction insn;
        ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
        char text[128] = "?";
        if (ZYAN_SUCCESS(
                ZydisDecoderDecodeFull(&decoder, c->pool + off, c->insn_len[k], &insn, ops))) {
            ZydisFormatterFormatInstruction(&formatter, &insn, ops, insn.operand_count_visible,
                                            text, sizeof text, c->rip + off, NULL);
        }
        fprintf(out, "  %" PRIx64 ": ", c->rip + off);
        for (unsigned b = 0; b < INSN_MAX_LEN; b++) {
            if (b < c->insn_len[k]) {
                fprintf(out, "%02x ", c->pool[off + b]);
            } else {
                fputs("   ", out);
            }
        }
        fprintf(out, " %s\n", text);
        off += c->insn_len[k];
    }
}

static void show_value(FILE *out, const char *name, uint64_t in, uint64_t soft, uint64_t host)
{
    if (soft != host || in != soft) {
        fprintf(out, "  %-8s %016" PRIx64 " -> soft %016" PRIx64 " host %016" PRIx64 "%s\n", name,
                in, soft, host, soft == host ? "" : "   <<<");
    } else {
        fprintf(out, "  %-8s %016" PRIx64 "\n", name, in);
    }
}

static void show_memory(FILE *out, const char *who, const struct oc_result *r)
{
    fprintf(out, "  memory of %s: %u words differ from the background\n", who, r->n_diffs);
    for (unsigned i = 0; i < r->n_diffs && i < OC_DIFFS; i++) {
        fprintf(out, "    flat %05x: %016" PRIx64 "\n", r->diff[i].off, r->diff[i].value);
    }
}

static void show_fx(FILE *out, const struct oc_case *c, const struct oc_result *soft,
                    const struct oc_result *host)
{
    for (unsigned k = 0; k < OC_FX; k += 16) {
        if (memcmp(soft->fx + k, host->fx + k, 16) == 0) {
            continue;
        }
        const uint8_t *rows[3] = {c->fx + k, soft->fx + k, host->fx + k};
        static const char *const names[3] = {"in  ", "soft", "host"};
        for (unsigned r = 0; r < 3; r++) {
            fprintf(out, "  fx[%3u] %s:", k, names[r]);
            for (unsigned b = 0; b < 16; b++) {
                fprintf(out, " %02x", rows[r][b]);
            }
            fputc('\n', out);
        }
    }
    for (unsigned k = 0; k < OC_YMM; k += 16) {
        if (memcmp(soft->ymm + k, host->ymm + k, 16) == 0) {
            continue;
        }
        const uint8_t *rows[3] = {c->ymm + k, soft->ymm + k, host->ymm + k};
        static const char *const names[3] = {"in  ", "soft", "host"};
        for (unsigned r = 0; r < 3; r++) {
            fprintf(out, "  ymm%u.hi %s:", k / 16, names[r]);
            for (unsigned b = 0; b < 16; b++) {
                fprintf(out, " %02x", rows[r][b]);
            }
            fputc('\n', out);
        }
    }
}

void oracle_show(FILE *out, const struct oc_case *c, const struct oc_result *soft,
                 const struct oc_result *host)
{
    static const char *const names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    show_code(out, c);
    for (unsigned i = 0; i < 16; i++) {
        show_value(out, names[i], c->gpr[i], soft->gpr[i], host->gpr[i]);
    }
    show_value(out, "rip", c->rip, soft->rip, host->rip);
    show_value(out, "rflags", c->rflags, soft->rflags, host->rflags);
    fprintf(out, "  undefined flags: %x at the end, %x on the way\n", c->undefined,
            c->ever_undefined);
    show_value(out, "trap", 0, soft->trap, host->trap);
    show_value(out, "error", 0, soft->err, host->err);
    show_value(out, "cr2", 0, soft->trap == V_PF ? soft->cr2 : 0,
               host->trap == V_PF ? host->cr2 : 0);
    show_fx(out, c, soft, host);
    for (unsigned i = 1; i < c->n_patches; i++) {
        fprintf(out, "  given at %" PRIx64 ":", c->patch[i].va);
        for (unsigned b = 0; b < c->patch[i].len && b < 64; b++) {
            fprintf(out, " %02x", c->pool[c->patch[i].at + b]);
        }
        fputc('\n', out);
    }
    show_memory(out, "soft", soft);
    show_memory(out, "host", host);
}
