// SPDX-License-Identifier: Apache-2.0
/*
 * Guest-physical layout: page tables and kernel pages in the first 64 KiB, the test memory at
 * IMAGE. Guest-virtual: the test memory at its user addresses, the kernel pages at KERNEL for the
 * supervisor only. Every gate leads to `out %al, $0x80` of its own: the port's handler kicks the
 * engine, so run() returns with RIP telling the vector and the frame on the kernel's stack.
 */
#include "oracle_soft.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/engine.h"
#include "cpu/soft/cpu.h"

#define RAM_BYTES (16ull << 20)
#define PML4 0x1000u
#define PDPT_USER 0x2000u
#define PD_USER 0x3000u
#define PT_USER 0x4000u
#define PDPT_KERNEL 0x5000u
#define PD_KERNEL 0x6000u
#define PT_KERNEL 0x7000u
#define KERNEL_PHYS 0x8000u
#define IMAGE 0x100000u

#define KERNEL 0xffff800000000000ull
#define GDT (KERNEL + 0)
#define TSS (KERNEL + 0x800)
#define IDT (KERNEL + 0x1000)
#define STUBS (KERNEL + 0x2000)
#define STUB_BYTES 16u
#define STACK_TOP (KERNEL + 0x4000)

/* A page of code and one of data before the case, when its pages are to be in the TLB already. */
#define WARM 0x7654321000ull /* where no branch of a case goes by chance */
#define WARM_DATA (WARM + OC_PAGE)
#define PD_WARM 0xc000u
#define PT_WARM 0xd000u
#define WARM_PHYS 0x10000u

#define PTE_P 1ull
#define PTE_W 2ull
#define PTE_U 4ull
#define PTE_NX (1ull << 63)
#define PORT 0x80

struct oracle_soft {
    struct engine *engine;
    struct mem *mem;
    struct bus mmio, pio;
    struct cpu_state base; /* of every case */
    const uint8_t *pristine;
    uint8_t *image;
    bool trapped;
    bool warm; /* most cases meet a filled TLB */
};

static void put64(struct oracle_soft *s, gpa_t gpa, uint64_t value)
{
    mem_write(s->mem, gpa, &value, 8);
}

static bool is_writable(uint64_t va)
{
    return va != OC_DATA2 + OC_PAGE && va != OC_DATA3;
}

static void put_warm(uint8_t **at, const char *opcode, unsigned n, uint64_t va, unsigned va_bytes)
{
    memcpy(*at, opcode, n);
    memcpy(*at + n, &va, va_bytes);
    *at += n + va_bytes;
}

/* Touch every page as it allows, then load RAX and jump to the case, without a change to anything
 * else. */
static void write_warm(struct oracle_soft *s)
{
    uint8_t code[512], *at = code;
    for (uint64_t va = OC_CODE; va < OC_COUNT + OC_PAGE; va += OC_PAGE) {
        if (oc_flat(va) >= 0) {
            put_warm(&at, "\xa0", 1, va, 8); /* mov al, [va] */
        }
        if (oc_flat(va) >= 0 && va >= OC_DATA && is_writable(va)) {
            put_warm(&at, "\xa2", 1, va, 8); /* mov [va], al */
        }
    }
    put_warm(&at, "\x48\xa1", 2, WARM_DATA, 8); /* mov rax, [] */
    uint64_t next = WARM + (uint64_t)(at - code) + 6;
    put_warm(&at, "\xff\x25", 2, WARM_DATA + 8 - next, 4); /* jmp [rip +] */
    mem_write(s->mem, WARM_PHYS, code, (size_t)(at - code));
    put64(s, PDPT_USER + (WARM >> 30 & 511) * 8, PD_WARM | PTE_P | PTE_U);
    put64(s, PD_WARM + (WARM >> 21 & 511) * 8, PT_WARM | PTE_P | PTE_U);
    for (unsigned i = 0; i < 2; i++) {
        put64(s, PT_WARM + (((WARM >> 12) + i) & 511) * 8,
              (WARM_PHYS + i * OC_PAGE) | PTE_P | PTE_U | (i ? PTE_NX : 0));
    }
}

static void write_page_tables(struct oracle_soft *s)
{
    const uint64_t all = PTE_P | PTE_W | PTE_U;
    put64(s, PML4, PDPT_USER | all);
    put64(s, PDPT_USER, PD_USER | all);
    put64(s, PD_USER + (OC_CODE >> 21) * 8, PT_USER | all);
    for (uint64_t va = OC_CODE; va < OC_COUNT + OC_PAGE; va += OC_PAGE) {
        int64_t flat = oc_flat(va);
        if (flat >= 0) {
            put64(s, PT_USER + (va >> 12 & 511) * 8,
                  (IMAGE + (uint64_t)flat) | PTE_P | PTE_U | (is_writable(va) ? PTE_W : 0) |
                      (va < OC_DATA ? 0 : PTE_NX));
        }
    }
    put64(s, PML4 + (KERNEL >> 39 & 511) * 8, PDPT_KERNEL | PTE_P | PTE_W);
    put64(s, PDPT_KERNEL, PD_KERNEL | PTE_P | PTE_W);
    put64(s, PD_KERNEL, PT_KERNEL | PTE_P | PTE_W);
    for (unsigned i = 0; i < 4; i++) {
        put64(s, PT_KERNEL + i * 8, (KERNEL_PHYS + i * OC_PAGE) | PTE_P | PTE_W);
    }
}

static gpa_t kernel_gpa(uint64_t va)
{
    return va - KERNEL + KERNEL_PHYS;
}

static void write_kernel(struct oracle_soft *s)
{
    static const uint64_t gdt[8] = {
        [1] = 0x00cf9b000000ffff, [2] = 0x00af9b000000ffff, [3] = 0x00cf93000000ffff,
        [4] = 0x00cffb000000ffff, [5] = 0x00cff3000000ffff, [6] = 0x00affb000000ffff,
    };
    mem_write(s->mem, kernel_gpa(GDT), gdt, sizeof gdt);
    put64(s, kernel_gpa(TSS) + 4, STACK_TOP);
    put64(s, kernel_gpa(TSS) + 0x60, 0x68ull << 48); /* no I/O bitmap */
    for (unsigned v = 0; v < 256; v++) {
        uint64_t rip = STUBS + v * STUB_BYTES, dpl = v == V_BP || v == V_OF ? 3 : 0;
        static const uint8_t stub[4] = {0xe6, PORT, 0xeb, 0xfc};
        put64(s, kernel_gpa(IDT) + v * 16,
              (rip & 0xffff) | 0x10u << 16 | (0x8e00 | dpl << 13) << 32 |
                  (rip >> 16 & 0xffff) << 48);
        put64(s, kernel_gpa(IDT) + v * 16 + 8, rip >> 32);
        mem_write(s->mem, kernel_gpa(rip), stub, sizeof stub);
    }
}

static int make_base(struct oracle_soft *s, bool avx, struct sm_error *err)
{
    struct cpu_state *b = &s->base;
    int rc = engine_soft.get_state(s->engine, 0, b, err);
    b->cr0 = CR0_PE | CR0_MP | CR0_NE | CR0_WP | CR0_AM | CR0_PG | 0x10;
    b->cr3 = PML4;
    b->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_FSGSBASE;
    if (avx) {
        b->cr4 |= CR4_OSXSAVE;
        b->xcr0 = 7;
    }
    b->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NX;
    memset(b->seg, 0, sizeof b->seg);
    b->seg[SEG_CS] = (struct seg_state){.limit = ~0u, .selector = OC_CS, .attr = 0xa0fb};
    b->seg[SEG_SS] = (struct seg_state){.limit = ~0u, .selector = OC_SS, .attr = 0xc0f3};
    b->seg[SEG_FS].base = OC_FS_BASE;
    b->seg[SEG_GS].base = OC_GS_BASE;
    b->seg[SEG_TR] = (struct seg_state){.base = TSS, .limit = 0x67, .selector = 0x40, .attr = 0x8b};
    b->gdt_base = GDT;
    b->gdt_limit = 63;
    b->idt_base = IDT;
    b->idt_limit = 4095;
    return rc;
}

static void on_port(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct oracle_soft *s = opaque;
    s->trapped = true;
    engine_soft.kick(s->engine, 0);
}

static uint64_t no_read(void *opaque, uint64_t offset, unsigned size)
{
    return ~0ull;
}

static const struct bus_ops port_ops = {.read = no_read, .write = on_port};

int oracle_soft_new(const uint8_t *pristine, const char *cpu, bool translate,
                    struct oracle_soft **out, struct sm_error *err)
{
    struct oracle_soft *s = aligned_alloc(64, (sizeof *s + 63) & ~(size_t)63);
    if (!s) {
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    memset(s, 0, sizeof *s);
    s->pristine = pristine;
    s->warm = translate;
    int rc = mem_new(RAM_BYTES, &s->mem, err);
    rc = rc ? rc : bus_add(&s->pio, PORT, 1, &port_ops, s, err);
    if (!rc) {
        struct engine_config config = {.mem = s->mem,
                                       .mmio = &s->mmio,
                                       .pio = &s->pio,
                                       .n_vcpus = 1,
                                       .cpu_model = cpu,
                                       .translate = translate ? ENGINE_TRANSLATE_ALL
                                                              : ENGINE_TRANSLATE_NONE};
        rc = engine_soft.create(&config, &s->engine, err);
    }
    rc = rc ? rc : make_base(s, strcmp(cpu, "v3") == 0, err);
    if (rc) {
        oracle_soft_free(s);
        return rc;
    }
    write_page_tables(s);
    write_kernel(s);
    write_warm(s);
    s->image = mem_ptr_write(s->mem, IMAGE, OC_IMAGE);
    memcpy(s->image, pristine, OC_IMAGE);
    *out = s;
    return SM_OK;
}

void oracle_soft_free(struct oracle_soft *s)
{
    if (s) {
        engine_soft.destroy(s->engine);
        mem_free(s->mem);
        free(s);
    }
}

void oracle_soft_interrupt(struct oracle_soft *s)
{
    engine_soft.kick(s->engine, 0);
}

static bool has_code(uint64_t vector)
{
    return vector == V_DF || (vector >= V_TS && vector <= V_PF) || vector == V_AC;
}

/* The outcome: the vector from RIP, the interrupted state from the frame. */
static int read_trap(struct oracle_soft *s, struct oc_result *r, struct sm_error *err)
{
    struct cpu_state st;
    uint64_t frame[6] = {0};
    int rc = engine_soft.get_state(s->engine, 0, &st, err);
    if (rc) {
        return rc;
    }
    if (!s->trapped || st.rip - STUBS >= 256 * STUB_BYTES) {
        return err_set(err, SM_ETIMEDOUT, "the case does not end: RIP %#llx",
                       (unsigned long long)st.rip);
    }
    memset(r, 0, sizeof *r);
    r->trap = (st.rip - STUBS) / STUB_BYTES;
    unsigned words = has_code(r->trap) ? 6 : 5;
    mem_read(s->mem, kernel_gpa(STACK_TOP) - words * 8, frame, words * 8);
    const uint64_t *f = words == 6 ? frame + 1 : frame;
    r->err = words == 6 ? frame[0] : 0;
    r->rip = f[0];
    r->rflags = f[2];
    memcpy(r->gpr, st.gpr, sizeof r->gpr);
    r->gpr[R_SP] = f[3];
    r->cr2 = st.cr2;
    if (f[1] != OC_CS || f[4] != OC_SS || st.gpr[R_SP] != STACK_TOP - words * 8) {
        return err_set(err, SM_EENGINE, "the exception frame of vector %u has CS %#llx, SS %#llx",
                       (unsigned)r->trap, (unsigned long long)f[1], (unsigned long long)f[4]);
    }
    memcpy(r->fx, st.xsave, OC_FX);
    memcpy(r->ymm, st.xsave + CPU_XSAVE_AVX, OC_YMM);
    return SM_OK;
}

int oracle_soft_run(struct oracle_soft *s, const struct oc_case *c, struct oc_result *r,
                    struct sm_error *err)
{
    struct cpu_state *b = &s->base;
    enum vcpu_exit why;
    memcpy(b->gpr, c->gpr, sizeof b->gpr);
    b->rip = c->rip;
    b->rflags = c->rflags;
    memcpy(b->xsave, c->fx, OC_FX);
    memcpy(b->xsave + CPU_XSAVE_AVX, c->ymm, OC_YMM);
    oc_apply(c, s->image);
    mem_wrote(s->mem, IMAGE, OC_CODE_BYTES);
    s->trapped = false;
    if (s->warm && !(c->rflags & FL_TF) && (c->gpr[R_DX] % 5)) {
        b->rip = WARM;
        b->gpr[R_AX] = c->gpr[R_AX];
        put64(s, WARM_PHYS + OC_PAGE, c->gpr[R_AX]);
        put64(s, WARM_PHYS + OC_PAGE + 8, c->rip);
    }
    int rc = engine_soft.set_state(s->engine, 0, b, err);
    rc = rc ? rc : engine_soft.run(s->engine, 0, &why, err);
    if (!rc && why != VCPU_EXIT_KICKED) {
        rc = err_set(err, SM_EENGINE, "the guest shut down");
    }
    rc = rc ? rc : read_trap(s, r, err);
    oc_collect(s->image, s->pristine, r);
    return rc;
}
