/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The software engine behind cpu/engine.h: makes and frees what the run loop works on, and
 * translates between its state and the engine-neutral one. Nothing here runs inside a slice.
 */
#include "cpu/soft/soft.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/model.h"
#include "cpu/soft/fpstate.h"
#include "cpu/soft/ioapic.h"
#include "cpu/soft/lapic.h"
#include "cpu/soft/run.h"
#include "cpu/soft/stub.h"
#include "cpu/soft/time.h"

#define STUB_BYTES (1u << 20)

static int soft_probe(struct sm_error *err)
{
    const char *missing;
    if (model_missing(&missing)) {
        return err_set(err, SM_EENGINE, "this processor lacks %s, which CPU model v2 needs",
                       missing);
    }
    return SM_OK;
}

static int make_pages(struct engine *e, struct sm_error *err)
{
    e->code_by = calloc(e->n_pages, 1);
    e->written_by = calloc(e->n_pages, 1);
    if (!e->code_by || !e->written_by) {
        return err_set(err, SM_ENOMEM, "out of memory for the soft engine");
    }
    return SM_OK;
}

static int make_cache(struct engine *e, struct block_cache **out, struct sm_error *err)
{
    struct block_cache *c = *out = calloc(1, sizeof *c);
    if (!c) {
        return err_set(err, SM_ENOMEM, "out of memory for the code cache");
    }
    atomic_flag_clear(&c->stale.lock);
    c->arena = malloc(BLOCK_ARENA_BYTES);
    c->pages = calloc(e->n_pages, sizeof *c->pages);
    c->builder = malloc(lift_builder_size());
    if (!c->arena || !c->pages || !c->builder) {
        return err_set(err, SM_ENOMEM, "out of memory for the code cache");
    }
    return stub_area_new(&c->stubs, STUB_BYTES, err);
}

static void free_cache(struct block_cache *c)
{
    if (!c) {
        return;
    }
    free(c->arena);
    free(c->pages);
    free(c->builder);
    stub_area_free(c->stubs);
    free(c);
}

static void soft_destroy(struct engine *e)
{
    if (!e) {
        return;
    }
    for (unsigned i = 0; i < ENGINE_MAX_VCPUS; i++) {
        if (e->cpus[i]) {
            free_cache(e->cpus[i]->cache);
            free(e->cpus[i]->lapic);
            free(e->cpus[i]);
        }
    }
    free((void *)e->code_by);
    free((void *)e->written_by);
    free(e->ioapic);
    free(e);
}

static int make_cpu(struct engine *e, unsigned index, struct sm_error *err)
{
    struct soft_cpu *cpu = aligned_alloc(64, (sizeof *cpu + 63) & ~(size_t)63);
    if (!cpu) {
        return err_set(err, SM_ENOMEM, "out of memory for a vCPU");
    }
    memset(cpu, 0, sizeof *cpu);
    e->cpus[index] = cpu;
    cpu->engine = e;
    cpu->index = index;
    cpu->gen[0] = cpu->gen[1] = 1;
    cpu->lapic = calloc(1, sizeof *cpu->lapic);
    if (!cpu->lapic) {
        return err_set(err, SM_ENOMEM, "out of memory for a local APIC");
    }
    int rc = make_cache(e, &cpu->cache, err);
    if (rc) {
        return rc;
    }
    soft_lapic_init(cpu->lapic);
    soft_tlb_flush(cpu, false);
    soft_fp_init(cpu);
    soft_sys_reset(cpu);
    return SM_OK;
}

static void on_dma(void *opaque, gpa_t gpa, uint64_t len)
{
    blocks_note_write(opaque, gpa, len);
}

static int soft_create(const struct engine_config *config, struct engine **out,
                       struct sm_error *err)
{
    if (config->n_vcpus != 1) {
        return err_set(err, SM_EUNSUPPORTED, "the soft engine runs 1 vCPU in this version, not %u",
                       config->n_vcpus);
    }
    if (strcmp(config->cpu_model, "v2") != 0) {
        return err_set(err, SM_EUNSUPPORTED, "unknown CPU model %s: the soft engine has v2",
                       config->cpu_model);
    }
    int rc = soft_probe(err);
    if (rc) {
        return rc;
    }
    struct engine *e = calloc(1, sizeof *e);
    if (!e) {
        return err_set(err, SM_ENOMEM, "out of memory for the soft engine");
    }
    e->config = *config;
    e->n_pages = config->mem->ram_bytes >> 12;
    e->tsc_khz = soft_calibrate_tsc_khz();
    if (!e->tsc_khz) {
        free(e);
        return err_set(err, SM_EENGINE, "this machine has no usable time stamp counter");
    }
    e->ioapic = calloc(1, sizeof *e->ioapic);
    if (!e->ioapic) {
        rc = err_set(err, SM_ENOMEM, "out of memory for the soft engine");
    } else {
        soft_ioapic_init(e->ioapic, e);
    }
    rc = rc ? rc : make_pages(e, err);
    for (unsigned i = 0; !rc && i < config->n_vcpus; i++) {
        rc = make_cpu(e, i, err);
    }
    if (rc) {
        soft_destroy(e);
        return rc;
    }
    config->mem->on_write = on_dma;
    config->mem->on_write_opaque = e;
    *out = e;
    return SM_OK;
}

static int soft_run(struct engine *e, unsigned vcpu, enum vcpu_exit *exit, struct sm_error *err)
{
    struct soft_cpu *cpu = e->cpus[vcpu];
    soft_fp_enter(cpu);
    *exit = soft_run_slice(cpu);
    soft_fp_leave(cpu);
    if (*exit == VCPU_EXIT_FAILED) {
        return err_set(err, SM_EENGINE, "the soft engine stopped at RIP %#llx: %s",
                       (unsigned long long)cpu->insn_rip, cpu->failure);
    }
    return SM_OK;
}

static void soft_kick(struct engine *e, unsigned vcpu)
{
    soft_notify(e->cpus[vcpu], PEND_KICK);
}

static void soft_irq(struct engine *e, unsigned gsi, int level)
{
    soft_ioapic_set(e->ioapic, gsi, level);
}

static int soft_get_state(struct engine *e, unsigned vcpu, struct cpu_state *s,
                          struct sm_error *err)
{
    const struct soft_cpu *cpu = e->cpus[vcpu];
    memset(s, 0, sizeof *s);
    memcpy(s->gpr, cpu->gpr, sizeof s->gpr);
    s->rip = cpu->rip;
    s->rflags = soft_get_rflags(cpu);
    memcpy(s->seg, cpu->seg, sizeof s->seg);
    s->seg[SEG_FS].base = cpu->seg_base[SEG_FS];
    s->seg[SEG_GS].base = cpu->seg_base[SEG_GS];
    s->gdt_base = cpu->gdt_base;
    s->gdt_limit = cpu->gdt_limit;
    s->idt_base = cpu->idt_base;
    s->idt_limit = cpu->idt_limit;
    s->cr0 = cpu->cr0;
    s->cr2 = cpu->cr2;
    s->cr3 = cpu->cr3;
    s->cr4 = cpu->cr4;
    s->cr8 = cpu->cr8;
    s->efer = cpu->efer;
    memcpy(s->dr, cpu->dr, sizeof s->dr);
    s->dr6 = cpu->dr6;
    s->dr7 = cpu->dr7;
    s->star = cpu->star;
    s->lstar = cpu->lstar;
    s->cstar = cpu->cstar;
    s->fmask = cpu->fmask;
    s->kernel_gs_base = cpu->kernel_gs_base;
    s->sysenter_cs = cpu->sysenter_cs;
    s->sysenter_esp = cpu->sysenter_esp;
    s->sysenter_eip = cpu->sysenter_eip;
    s->tsc_aux = cpu->tsc_aux;
    s->pat = cpu->pat;
    s->apic_base = cpu->apic_base;
    memcpy(s->fxsave, cpu->fx, sizeof s->fxsave);
    return SM_OK;
}

static int check_state(const struct cpu_state *s, struct sm_error *err)
{
    uint64_t need = CR0_PE | CR0_PG;
    if ((s->cr0 & need) != need || !(s->efer & EFER_LMA) || !(s->cr4 & CR4_PAE)) {
        return err_set(err, SM_EUNSUPPORTED, "the vCPU state is not in 64-bit long mode");
    }
    if ((uint64_t)((int64_t)(s->rip << 16) >> 16) != s->rip) {
        return err_set(err, SM_ECORRUPT, "the vCPU state has a non-canonical RIP");
    }
    uint32_t mxcsr;
    memcpy(&mxcsr, s->fxsave + 24, sizeof mxcsr);
    if (mxcsr & ~0xffffu) {
        return err_set(err, SM_ECORRUPT, "the vCPU state has reserved MXCSR bits");
    }
    return SM_OK;
}

static int soft_set_state(struct engine *e, unsigned vcpu, const struct cpu_state *s,
                          struct sm_error *err)
{
    struct soft_cpu *cpu = e->cpus[vcpu];
    int rc = check_state(s, err);
    if (rc) {
        return rc;
    }
    memcpy(cpu->gpr, s->gpr, sizeof s->gpr);
    cpu->rip = s->rip;
    soft_set_rflags(cpu, s->rflags);
    memcpy(cpu->seg, s->seg, sizeof cpu->seg);
    cpu->seg_base[SEG_FS] = s->seg[SEG_FS].base;
    cpu->seg_base[SEG_GS] = s->seg[SEG_GS].base;
    cpu->gdt_base = s->gdt_base;
    cpu->gdt_limit = s->gdt_limit;
    cpu->idt_base = s->idt_base;
    cpu->idt_limit = s->idt_limit;
    cpu->cr0 = s->cr0;
    cpu->cr2 = s->cr2;
    cpu->cr3 = s->cr3;
    cpu->cr4 = s->cr4;
    cpu->cr8 = s->cr8;
    cpu->efer = s->efer;
    memcpy(cpu->dr, s->dr, sizeof s->dr);
    cpu->dr6 = s->dr6;
    cpu->dr7 = s->dr7;
    cpu->star = s->star;
    cpu->lstar = s->lstar;
    cpu->cstar = s->cstar;
    cpu->fmask = s->fmask;
    cpu->kernel_gs_base = s->kernel_gs_base;
    cpu->sysenter_cs = s->sysenter_cs;
    cpu->sysenter_esp = s->sysenter_esp;
    cpu->sysenter_eip = s->sysenter_eip;
    cpu->tsc_aux = s->tsc_aux;
    if (s->pat) {
        cpu->pat = s->pat;
    }
    if (s->apic_base) {
        cpu->apic_base = s->apic_base;
    }
    memcpy(cpu->fx, s->fxsave, sizeof s->fxsave);
    soft_tlb_flush(cpu, false);
    soft_update_mode(cpu);
    return SM_OK;
}

const struct engine_ops engine_soft = {
    .name = "soft",
    .probe = soft_probe,
    .create = soft_create,
    .destroy = soft_destroy,
    .run = soft_run,
    .kick = soft_kick,
    .irq = soft_irq,
    .get_state = soft_get_state,
    .set_state = soft_set_state,
};
