/* SPDX-License-Identifier: Apache-2.0 */
/* The engine-neutral state of a vCPU (cpu/engine.h) out of and into KVM. */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "cpu/kvm/kvm_regs.h"

#define APIC_BASE_RESET 0xfee00c00ull /* enabled, x2APIC mode */
#define APIC_BASE_BSP 0x100u
#define XSTATE_MODEL 7ull /* x87, SSE, AVX: what cpu_state has room for */
#define XCR0_RESET 1u

int kvm_refused(struct sm_error *err, const char *what)
{
    if (errno == EINVAL)
        return err_set(err, SM_ECORRUPT, "kvm: the vCPU's state is impossible: %s refuses it",
                       what);
    return kvm_failed(err, what);
}

static int get(const struct engine *e, unsigned vcpu, unsigned long request, const char *name,
               void *arg, struct sm_error *err)
{
    return kvm_call(&e->host, e->vcpus[vcpu].fd, request, arg) < 0 ? kvm_failed(err, name) : 0;
}

static int set(const struct engine *e, unsigned vcpu, unsigned long request, const char *name,
               void *arg, struct sm_error *err)
{
    return kvm_call(&e->host, e->vcpus[vcpu].fd, request, arg) < 0 ? kvm_refused(err, name) : 0;
}

#define GET(request, arg) get(e, vcpu, request, #request, arg, err)
#define SET(request, arg) set(e, vcpu, request, #request, arg, err)

int kvm_reset_state(struct engine *e, unsigned vcpu, struct sm_error *err)
{
    struct kvm_sregs sregs;
    int rc = kvm_msrs_reset(e, vcpu, err);

    rc = rc ? rc : GET(KVM_GET_SREGS, &sregs);
    if (rc)
        return rc;
    sregs.apic_base = APIC_BASE_RESET | (vcpu == 0 ? APIC_BASE_BSP : 0);
    return SET(KVM_SET_SREGS, &sregs);
}

/* ---- x87, MMX, SSE, AVX ---- */

static int get_xsave(struct engine *e, unsigned vcpu, struct cpu_state *s, struct sm_error *err)
{
    struct kvm_xcrs xcrs = {0};
    struct kvm_xsave area;
    uint64_t present;
    int rc = GET(KVM_GET_XSAVE, &area);

    if (rc)
        return rc;
    memcpy(s->xsave, area.region, sizeof s->xsave);
    memcpy(&present, s->xsave + CPU_XSAVE_HEADER, sizeof present);
    present &= XSTATE_MODEL; /* others a guest of the model cannot have enabled */
    memset(s->xsave + CPU_XSAVE_HEADER, 0, 64);
    memcpy(s->xsave + CPU_XSAVE_HEADER, &present, sizeof present);
    s->xcr0 = XCR0_RESET;
    if (!e->has_xcrs)
        return 0;
    rc = GET(KVM_GET_XCRS, &xcrs);
    for (unsigned i = 0; !rc && i < xcrs.nr_xcrs && i < KVM_MAX_XCRS; i++)
        if (xcrs.xcrs[i].xcr == 0)
            s->xcr0 = xcrs.xcrs[i].value;
    return rc;
}

static int set_xsave(struct engine *e, unsigned vcpu, const struct cpu_state *s,
                     struct sm_error *err)
{
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0] = {.xcr = 0, .value = s->xcr0}};
    struct kvm_xsave area = {0};
    uint64_t present;

    memcpy(&present, s->xsave + CPU_XSAVE_HEADER, sizeof present);
    if (present & ~XSTATE_MODEL || !(s->xcr0 & 1) || s->xcr0 & ~XSTATE_MODEL)
        return err_set(err, SM_ECORRUPT, "the vCPU's state is impossible: its extended state");
    memcpy(area.region, s->xsave, sizeof s->xsave);
    if (s->xcr0 != XCR0_RESET || e->has_xcrs) {
        int rc = SET(KVM_SET_XCRS, &xcrs);
        if (rc)
            return rc;
    }
    return SET(KVM_SET_XSAVE, &area);
}

/* ---- activity ---- */

static int get_mp(struct engine *e, unsigned vcpu, enum cpu_mp *mp, struct sm_error *err)
{
    struct kvm_mp_state state;
    int rc = GET(KVM_GET_MP_STATE, &state);

    if (rc)
        return rc;
    switch (state.mp_state) {
    case KVM_MP_STATE_RUNNABLE:
        *mp = CPU_RUNNING;
        return 0;
    case KVM_MP_STATE_HALTED:
        *mp = CPU_HALTED;
        return 0;
    case KVM_MP_STATE_UNINITIALIZED:
    case KVM_MP_STATE_INIT_RECEIVED:
        *mp = CPU_WAIT_SIPI;
        return 0;
    default:
        return err_set(err, SM_EENGINE, "kvm: vCPU %u is in the unknown state %u", vcpu,
                       state.mp_state);
    }
}

static int set_mp(struct engine *e, unsigned vcpu, enum cpu_mp mp, struct sm_error *err)
{
    static const uint32_t states[CPU_MP_COUNT] = {
        [CPU_RUNNING] = KVM_MP_STATE_RUNNABLE,
        [CPU_HALTED] = KVM_MP_STATE_HALTED,
        /* not UNINITIALIZED: that one waits for an INIT, which may have come already */
        [CPU_WAIT_SIPI] = KVM_MP_STATE_INIT_RECEIVED,
    };
    struct kvm_mp_state state;

    if ((unsigned)mp >= CPU_MP_COUNT)
        return err_set(err, SM_ECORRUPT, "the vCPU's state is impossible: its activity");
    state.mp_state = states[mp];
    return SET(KVM_SET_MP_STATE, &state);
}

/* ---- all of it ---- */

int kvm_get_state(struct engine *e, unsigned vcpu, struct cpu_state *s, struct sm_error *err)
{
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_debugregs debug;
    struct kvm_vcpu_events events;
    struct kvm_lapic_state lapic;

    memset(s, 0, sizeof *s);
    int rc = get_mp(e, vcpu, &s->mp, err); /* first: it may still move the vCPU on */
    rc = rc ? rc : GET(KVM_GET_REGS, &regs);
    rc = rc ? rc : GET(KVM_GET_SREGS, &sregs);
    rc = rc ? rc : GET(KVM_GET_DEBUGREGS, &debug);
    rc = rc ? rc : GET(KVM_GET_VCPU_EVENTS, &events);
    rc = rc ? rc : GET(KVM_GET_LAPIC, &lapic);
    rc = rc ? rc : get_xsave(e, vcpu, s, err);
    rc = rc ? rc : kvm_msrs_get(e, vcpu, s, err);
    if (rc)
        return rc;
    kvm_regs_take(&regs, s);
    kvm_sregs_take(&sregs, s);
    kvm_events_take(&events, &s->events);
    memcpy(s->dr, debug.db, sizeof s->dr);
    s->dr6 = debug.dr6;
    s->dr7 = debug.dr7;
    memcpy(s->lapic, lapic.regs, sizeof s->lapic);
    return 0;
}

int kvm_set_state(struct engine *e, unsigned vcpu, const struct cpu_state *s, struct sm_error *err)
{
    struct kvm_debugregs debug = {.dr6 = s->dr6, .dr7 = s->dr7};
    struct kvm_regs regs;
    struct kvm_sregs sregs = {0};
    struct kvm_vcpu_events events;
    struct kvm_lapic_state lapic;

    kvm_sregs_put(s, &sregs);
    kvm_regs_put(s, &regs);
    kvm_events_put(&s->events, &events);
    memcpy(debug.db, s->dr, sizeof debug.db);
    memcpy(lapic.regs, s->lapic, sizeof lapic.regs);
    /* The APIC's mode before its registers, these before the timer, and everything before what is
     * under way. */
    int rc = SET(KVM_SET_SREGS, &sregs);
    rc = rc ? rc : SET(KVM_SET_REGS, &regs);
    rc = rc ? rc : set_xsave(e, vcpu, s, err);
    rc = rc ? rc : SET(KVM_SET_DEBUGREGS, &debug);
    rc = rc ? rc : kvm_msrs_set(e, vcpu, s, err);
    rc = rc ? rc : SET(KVM_SET_LAPIC, &lapic);
    rc = rc ? rc : kvm_msrs_set_timers(e, vcpu, s, err);
    rc = rc ? rc : set_mp(e, vcpu, s->mp, err);
    rc = rc ? rc : SET(KVM_SET_VCPU_EVENTS, &events);
    if (!rc && s->kvm_system_time & 1) /* it was stopped: its watchdogs must not bite */
        kvm_call(&e->host, e->vcpus[vcpu].fd, KVM_KVMCLOCK_CTRL, NULL);
    return rc;
}
