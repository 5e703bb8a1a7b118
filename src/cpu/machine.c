/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/machine.h"

#define KHZ_MIN 100000u
#define KHZ_MAX 10000000u
#define SYSTEM_NS_MAX (1ull << 62) /* 146 years of uptime */

static void walk_u64s(struct state *s, uint64_t *v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        state_u64(s, &v[i]);
}

void machine_walk(struct state *s, void *object)
{
    struct machine_state *m = object;

    state_u32(s, &m->ioapic_select);
    state_u32(s, &m->ioapic_id);
    state_u32(s, &m->ioapic_lines);
    state_check(s, m->ioapic_select <= 0xff, "the I/O APIC's register number is out of range");
    state_check(s, !(m->ioapic_id & ~0x0f000000u), "the I/O APIC's ID is out of range");
    state_check(s, !(m->ioapic_lines >> ENGINE_IOAPIC_PINS), "the I/O APIC has too many pins");
    walk_u64s(s, m->ioapic_redirect, ENGINE_IOAPIC_PINS);
    state_u64(s, &m->host_tsc);
    state_u64(s, &m->tsc_khz);
    state_u64(s, &m->system_ns);
    state_check(s, m->tsc_khz >= KHZ_MIN && m->tsc_khz <= KHZ_MAX,
                "the TSC's rate is out of range");
    state_check(s, m->system_ns <= SYSTEM_NS_MAX, "the system time is out of range");
}

static void walk_segments(struct state *s, struct cpu_state *c)
{
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        state_u64(s, &c->seg[i].base);
        state_u32(s, &c->seg[i].limit);
        state_u16(s, &c->seg[i].selector);
        state_u16(s, &c->seg[i].attr);
    }
    state_u64(s, &c->gdt_base);
    state_u32(s, &c->gdt_limit);
    state_u64(s, &c->idt_base);
    state_u32(s, &c->idt_limit);
}

static void walk_events(struct state *s, struct cpu_events *e)
{
    state_bool(s, &e->exception_injected);
    state_bool(s, &e->exception_pending);
    state_bool(s, &e->exception_has_code);
    state_u8(s, &e->exception_vector);
    state_u32(s, &e->exception_code);
    state_bool(s, &e->interrupt_injected);
    state_bool(s, &e->interrupt_soft);
    state_u8(s, &e->interrupt_vector);
    state_bool(s, &e->nmi_injected);
    state_bool(s, &e->nmi_pending);
    state_bool(s, &e->nmi_masked);
    state_u8(s, &e->shadow);
    state_check(s, e->exception_vector < 32, "an exception's vector is out of range");
    state_check(s, !(e->shadow & ~(CPU_SHADOW_MOV_SS | CPU_SHADOW_STI)),
                "the interrupt shadow is out of range");
}

static void walk_msrs(struct state *s, struct cpu_state *c)
{
    uint64_t *const fields[] = {
        &c->star,          &c->lstar,          &c->cstar,
        &c->fmask,         &c->sysenter_cs,    &c->sysenter_esp,
        &c->sysenter_eip,  &c->kernel_gs_base, &c->tsc_aux,
        &c->pat,           &c->apic_base,      &c->misc_enable,
        &c->tsc_offset,    &c->tsc_adjust,     &c->tsc_deadline,
        &c->mtrr_def_type, &c->kvm_wall_clock, &c->kvm_system_time,
    };

    for (unsigned i = 0; i < sizeof fields / sizeof fields[0]; i++)
        state_u64(s, fields[i]);
    walk_u64s(s, c->mtrr_var, sizeof c->mtrr_var / sizeof c->mtrr_var[0]);
    walk_u64s(s, c->mtrr_fixed, sizeof c->mtrr_fixed / sizeof c->mtrr_fixed[0]);
}

void cpu_walk(struct state *s, void *object)
{
    struct cpu_state *c = object;
    uint32_t mp = c->mp;

    walk_u64s(s, c->gpr, 16);
    state_u64(s, &c->rip);
    state_u64(s, &c->rflags);
    walk_segments(s, c);
    state_u64(s, &c->cr0);
    state_u64(s, &c->cr2);
    state_u64(s, &c->cr3);
    state_u64(s, &c->cr4);
    state_u64(s, &c->cr8);
    state_u64(s, &c->efer);
    state_check(s, c->cr8 <= 15, "CR8 is out of range");
    walk_u64s(s, c->dr, 4);
    state_u64(s, &c->dr6);
    state_u64(s, &c->dr7);
    walk_msrs(s, c);
    state_u64(s, &c->xcr0);
    state_u32(s, &mp);
    state_check(s, mp < CPU_MP_COUNT, "the vCPU's activity is out of range");
    if (s->loading)
        c->mp = mp < CPU_MP_COUNT ? (enum cpu_mp)mp : CPU_RUNNING;
    walk_events(s, &c->events);
    state_bytes(s, c->lapic, sizeof c->lapic);
    state_bytes(s, c->xsave, sizeof c->xsave);
}

/* A guest may have named any deadline; one beyond 2^63 ticks is for ever. */
static uint64_t convert_deadline(uint64_t deadline, uint64_t now, uint64_t from_khz,
                                 uint64_t to_khz)
{
    if (deadline == 0 || deadline <= now)
        return deadline;
    unsigned __int128 ahead = (unsigned __int128)(deadline - now) * to_khz / from_khz;
    return ahead >= UINT64_MAX / 2 - now ? UINT64_MAX / 2 : now + (uint64_t)ahead;
}

void machine_resume(struct machine_state *saved, struct cpu_state *cpus, unsigned n_cpus,
                    const struct machine_state *now)
{
    for (unsigned i = 0; i < n_cpus; i++) {
        struct cpu_state *c = &cpus[i];

        c->tsc_deadline = convert_deadline(c->tsc_deadline, saved->host_tsc + c->tsc_offset,
                                           saved->tsc_khz, now->tsc_khz);
        c->tsc_offset += saved->host_tsc - now->host_tsc;
    }
    saved->host_tsc = now->host_tsc;
    saved->tsc_khz = now->tsc_khz;
}
