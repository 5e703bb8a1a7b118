/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine-neutral state (cpu/engine.h) out of and into the software engine. One walk per part
 * moves its fields in either direction. Not inside a run slice.
 */
#include "cpu/soft/soft_state.h"

#include <string.h>

#include "cpu/soft/breakpoint.h"
#include "cpu/soft/ioapic.h"
#include "cpu/soft/lapic.h"
#include "cpu/soft/lapic_state.h"
#include "cpu/soft/soft.h"
#include "cpu/soft/sys.h"

#define FX_FOP 6 /* FOP, FIP, FDP: 18 bytes, always 0 here (fpstate.h) */
#define FX_FOP_LEN 18

/* One field: ours to neutral when saving, neutral to ours when loading. */
#define MOVE(ours, neutral) move(&(ours), &(neutral), sizeof(ours), load)

static void move(void *ours, void *neutral, size_t len, bool load)
{
    if (load)
        memcpy(ours, neutral, len);
    else
        memcpy(neutral, ours, len);
}

static void walk_system(struct soft_cpu *cpu, struct cpu_state *s, bool load)
{
    MOVE(cpu->gdt_base, s->gdt_base);
    MOVE(cpu->gdt_limit, s->gdt_limit);
    MOVE(cpu->idt_base, s->idt_base);
    MOVE(cpu->idt_limit, s->idt_limit);
    MOVE(cpu->cr0, s->cr0);
    MOVE(cpu->cr2, s->cr2);
    MOVE(cpu->cr3, s->cr3);
    MOVE(cpu->cr4, s->cr4);
    MOVE(cpu->cr8, s->cr8);
    MOVE(cpu->xcr0, s->xcr0);
    MOVE(cpu->efer, s->efer);
    MOVE(cpu->dr, s->dr);
    MOVE(cpu->dr6, s->dr6);
    MOVE(cpu->dr7, s->dr7);
}

static void walk_msrs(struct soft_cpu *cpu, struct cpu_state *s, bool load)
{
    MOVE(cpu->star, s->star);
    MOVE(cpu->lstar, s->lstar);
    MOVE(cpu->cstar, s->cstar);
    MOVE(cpu->fmask, s->fmask);
    MOVE(cpu->kernel_gs_base, s->kernel_gs_base);
    MOVE(cpu->sysenter_cs, s->sysenter_cs);
    MOVE(cpu->sysenter_esp, s->sysenter_esp);
    MOVE(cpu->sysenter_eip, s->sysenter_eip);
    MOVE(cpu->tsc_aux, s->tsc_aux);
    MOVE(cpu->pat, s->pat);
    MOVE(cpu->apic_base, s->apic_base);
    MOVE(cpu->misc_enable, s->misc_enable);
    MOVE(cpu->mtrr_def_type, s->mtrr_def_type);
    MOVE(cpu->mtrr_var, s->mtrr_var);
    MOVE(cpu->mtrr_fixed, s->mtrr_fixed);
    MOVE(cpu->tsc_offset, s->tsc_offset);
    MOVE(cpu->tsc_adjust, s->tsc_adjust);
    MOVE(cpu->kvm_system_time, s->kvm_system_time);
    MOVE(cpu->kvm_wall_clock, s->kvm_wall_clock);
}

/* The state components that the CPU model has, whether or not XCR0 enables them. */
static uint64_t components(const struct soft_cpu *cpu)
{
    return cpu->features & INSN_FEATURE(IFT_AVX) ? XCR0_MODEL : XCR0_X87 | XCR0_SSE;
}

/* What has the same form on both sides. */
static void walk(struct soft_cpu *cpu, struct cpu_state *s, bool load)
{
    move(cpu->gpr, s->gpr, sizeof s->gpr, load);
    MOVE(cpu->rip, s->rip);
    for (unsigned i = 0; i < SEG_COUNT; i++)
        MOVE(cpu->seg[i], s->seg[i]);
    MOVE(cpu->seg_base[SEG_FS], s->seg[SEG_FS].base);
    MOVE(cpu->seg_base[SEG_GS], s->seg[SEG_GS].base);
    walk_system(cpu, s, load);
    walk_msrs(cpu, s, load);
    move(cpu->fx, s->xsave, sizeof cpu->fx, load);
}

int soft_get_state(struct engine *e, unsigned vcpu, struct cpu_state *s, struct sm_error *err)
{
    struct soft_cpu *cpu = e->cpus[vcpu];

    if (atomic_load(&cpu->pending) & (PEND_INIT | PEND_SIPI))
        return err_set(err, SM_EUNSUPPORTED, "vCPU %u is just being started: try again", vcpu);
    soft_lapic_poll(cpu); /* a timer that expired unseen becomes a request */
    memset(s, 0, sizeof *s);
    walk(cpu, s, false);
    s->rflags = soft_get_rflags(cpu);
    s->xsave[CPU_XSAVE_HEADER] = (uint8_t)components(cpu);
    s->mp = cpu->wait_sipi ? CPU_WAIT_SIPI : cpu->halted ? CPU_HALTED : CPU_RUNNING;
    s->events.nmi_pending = cpu->nmi_latched || (atomic_load(&cpu->pending) & PEND_NMI);
    s->events.nmi_masked = cpu->nmi_blocked;
    s->events.shadow = cpu->int_shadow ? CPU_SHADOW_STI : 0;
    lapic_state_save(cpu, s->lapic);
    s->tsc_deadline = soft_lapic_tsc_deadline(cpu);
    return SM_OK;
}

static int bad(struct sm_error *err, const char *what)
{
    return err_set(err, SM_ECORRUPT, "the vCPU's state is impossible: %s", what);
}

static int check_registers(const struct soft_cpu *cpu, const struct cpu_state *s,
                           struct sm_error *err)
{
    const uint64_t long_mode = EFER_LMA | EFER_LME;
    bool paging = s->cr0 & CR0_PG;
    uint64_t present;
    uint32_t mxcsr;

    if (paging && ((s->efer & long_mode) != long_mode || !(s->cr4 & CR4_PAE)))
        return err_set(err, SM_EUNSUPPORTED,
                       "the vCPU state has paging outside long mode, which the soft engine lacks");
    if (!paging && (s->efer & EFER_LMA))
        return bad(err, "long mode without paging");
    if (!sys_cr0_valid(s->cr0) || !sys_cr4_valid(cpu, s->cr4) || s->cr8 > 15 ||
        s->cr3 >> MODEL_PHYS_BITS)
        return bad(err, "a control register");
    if (s->efer & ~(uint64_t)(EFER_SCE | EFER_LME | EFER_LMA | EFER_NX))
        return bad(err, "EFER");
    if (s->dr6 >> 32 || s->dr7 >> 32)
        return bad(err, "a debug register");
    if (!sys_canonical(s->rip) || !sys_canonical(s->gdt_base) || !sys_canonical(s->idt_base))
        return bad(err, "an address is not canonical");
    for (unsigned i = 0; i < SEG_COUNT; i++)
        if (!sys_canonical(s->seg[i].base))
            return bad(err, "a segment's base is not canonical");
    memcpy(&mxcsr, s->xsave + CPU_FX_MXCSR, sizeof mxcsr);
    if (mxcsr & ~0xffffu)
        return bad(err, "reserved MXCSR bits");
    memcpy(&present, s->xsave + CPU_XSAVE_HEADER, sizeof present);
    if (!sys_xcr0_valid(cpu, s->xcr0) || present & ~components(cpu))
        return err_set(err, SM_EUNSUPPORTED,
                       "the vCPU state has extended state that its CPU model lacks (XCR0 %#llx)",
                       (unsigned long long)s->xcr0);
    return SM_OK;
}

static int check_events(const struct cpu_state *s, struct sm_error *err)
{
    const struct cpu_events *e = &s->events;

    if ((unsigned)s->mp >= CPU_MP_COUNT)
        return bad(err, "what the vCPU does next");
    if (e->exception_injected || e->exception_pending ||
        (e->interrupt_injected && e->interrupt_soft))
        return err_set(err, SM_EUNSUPPORTED, "the vCPU was saved in the middle of an exception");
    if (e->interrupt_injected && e->interrupt_vector < 16)
        return bad(err, "an interrupt's vector");
    return SM_OK;
}

/* Components that the image says are in their initial state get its bytes. Ours has them all. */
static void initial_fp(struct soft_cpu *cpu, uint8_t present)
{
    if (!(present & XCR0_X87)) {
        memset(cpu->fx, 0, CPU_FX_MXCSR);
        memset(cpu->fx + 32, 0, 128);
        cpu->fx[0] = 0x7f; /* FCW 37f; the tag word is 0, all empty, in FXSAVE's form */
        cpu->fx[1] = 0x03;
    }
    if (!(present & XCR0_SSE))
        memset(cpu->fx + 160, 0, 256);
    if (!(present & XCR0_AVX))
        memset(cpu->fx + CPU_XSAVE_AVX, 0, CPU_XSAVE_BYTES - CPU_XSAVE_AVX);
    memset(cpu->fx + CPU_XSAVE_HEADER, 0, CPU_XSAVE_AVX - CPU_XSAVE_HEADER);
    cpu->fx[CPU_XSAVE_HEADER] = XCR0_MODEL;
    memset(cpu->fx + FX_FOP, 0, FX_FOP_LEN);
}

int soft_set_state(struct engine *e, unsigned vcpu, const struct cpu_state *in,
                   struct sm_error *err)
{
    struct soft_cpu *cpu = e->cpus[vcpu];
    struct cpu_state s = *in; /* the walk goes both ways */
    int rc = check_registers(cpu, &s, err);

    rc = rc ? rc : check_events(&s, err);
    if (rc)
        return rc;
    if (!soft_msrs_valid(cpu, &s))
        return bad(err, "a model-specific register");
    walk(cpu, &s, true);
    soft_set_rflags(cpu, s.rflags);
    break_reset(cpu);
    initial_fp(cpu, s.xsave[CPU_XSAVE_HEADER]);
    cpu->halted = s.mp == CPU_HALTED;
    cpu->wait_sipi = s.mp == CPU_WAIT_SIPI;
    cpu->nmi_latched = s.events.nmi_pending || s.events.nmi_injected;
    cpu->nmi_blocked = s.events.nmi_masked && !s.events.nmi_injected;
    cpu->int_shadow = s.events.shadow != 0;
    if (lapic_state_load(cpu, s.lapic, s.tsc_deadline) != 0)
        return bad(err, "the local APIC");
    if (s.events.interrupt_injected)
        soft_lapic_unaccept(cpu, s.events.interrupt_vector);
    soft_tlb_flush(cpu, false);
    if (!cpu->wait_sipi)
        soft_update_mode(cpu);
    pvclock_restore(cpu);
    return SM_OK;
}

/* ---- what the vCPUs share ---- */

static void walk_ioapic(struct soft_ioapic *io, struct machine_state *m, bool load)
{
    MOVE(io->select, m->ioapic_select);
    MOVE(io->id, m->ioapic_id);
    MOVE(io->lines, m->ioapic_lines);
    MOVE(io->redirect, m->ioapic_redirect);
}

int soft_get_machine(struct engine *e, struct machine_state *m, struct sm_error *err)
{
    memset(m, 0, sizeof *m);
    walk_ioapic(e->ioapic, m, false);
    m->host_tsc = time_host_tsc();
    m->tsc_khz = e->tsc_khz;
    m->system_ns = time_ns(&e->cpus[0]->clock, m->host_tsc);
    return SM_OK;
}

int soft_set_machine(struct engine *e, const struct machine_state *in, struct sm_error *err)
{
    struct machine_state m = *in;

    if (m.tsc_khz != e->tsc_khz)
        return err_set(err, SM_EINVAL, "the machine's TSC was not converted to this host's rate");
    if (!soft_ioapic_valid(m.ioapic_redirect))
        return err_set(err, SM_ECORRUPT, "the I/O APIC's state is impossible");
    walk_ioapic(e->ioapic, &m, true);
    for (unsigned i = 0; i < e->config.n_vcpus; i++)
        time_set(&e->cpus[i]->clock, m.host_tsc, m.system_ns);
    return SM_OK;
}
