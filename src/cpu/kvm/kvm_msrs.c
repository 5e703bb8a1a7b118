/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model-specific registers of a vCPU: those of cpu_state, by number (Intel SDM vol. 4, Linux
 * Documentation/virt/kvm/x86/msr.rst), and the TSC, whose offset to the host's KVM keeps as an
 * attribute of the vCPU.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <x86intrin.h>

#include "base/err.h"
#include "cpu/kvm/kvm_regs.h"

#define MSR_TSC 0x10u
#define MSR_MTRR_FIX64K 0x250u
#define MSR_MTRR_FIX16K 0x258u
#define MSR_MTRR_FIX4K 0x268u

#define MTRR_RESET 0xc06u /* MTRRs and fixed ranges on, write-back by default */
#define MTRR_WRITE_BACK 0x0606060606060606ull
#define MISC_ENABLE_RESET 1u /* fast strings */

struct field {
    uint32_t index;
    uint32_t offset; /* in struct cpu_state */
};

#define FIELD(index, name)                                                                         \
    {                                                                                              \
        index, offsetof(struct cpu_state, name)                                                    \
    }
#define FIXED(index, n) FIELD(index, mtrr_fixed[n])
#define VAR2(n) FIELD(0x200 + (n), mtrr_var[n]), FIELD(0x201 + (n), mtrr_var[(n) + 1])

static const struct field plain[] = {
    FIELD(0x174, sysenter_cs),
    FIELD(0x175, sysenter_esp),
    FIELD(0x176, sysenter_eip),
    FIELD(0x1a0, misc_enable),
    FIELD(0x277, pat),
    FIELD(0xc0000081, star),
    FIELD(0xc0000082, lstar),
    FIELD(0xc0000083, cstar),
    FIELD(0xc0000084, fmask),
    FIELD(0xc0000102, kernel_gs_base),
    FIELD(0xc0000103, tsc_aux),
    FIELD(0x3b, tsc_adjust),
    FIXED(MSR_MTRR_FIX64K, 0),
    FIXED(MSR_MTRR_FIX16K, 1),
    FIXED(MSR_MTRR_FIX16K + 1, 2),
    FIXED(MSR_MTRR_FIX4K, 3),
    FIXED(MSR_MTRR_FIX4K + 1, 4),
    FIXED(MSR_MTRR_FIX4K + 2, 5),
    FIXED(MSR_MTRR_FIX4K + 3, 6),
    FIXED(MSR_MTRR_FIX4K + 4, 7),
    FIXED(MSR_MTRR_FIX4K + 5, 8),
    FIXED(MSR_MTRR_FIX4K + 6, 9),
    FIXED(MSR_MTRR_FIX4K + 7, 10),
    VAR2(0),
    VAR2(2),
    VAR2(4),
    VAR2(6),
    VAR2(8),
    VAR2(10),
    VAR2(12),
    VAR2(14),
    FIELD(0x2ff, mtrr_def_type),
};

static const struct field timers[] = {
    FIELD(0x6e0, tsc_deadline),
    FIELD(0x4b564d00, kvm_wall_clock),
    FIELD(0x4b564d01, kvm_system_time),
};

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

struct msrs {
    struct kvm_msrs head;
    struct kvm_msr_entry entries[COUNT(plain)];
};

/* KVM stops at the first register that it refuses, and says how many it took. */
static int move(const struct engine *e, unsigned vcpu, struct msrs *m, bool set,
                struct sm_error *err)
{
    int done = kvm_call(&e->host, e->vcpus[vcpu].fd, set ? KVM_SET_MSRS : KVM_GET_MSRS, m);

    if (done < 0)
        return kvm_failed(err, set ? "KVM_SET_MSRS" : "KVM_GET_MSRS");
    if ((uint32_t)done < m->head.nmsrs)
        return err_set(err, set ? SM_ECORRUPT : SM_EENGINE, "kvm: the host does not %s MSR %#x: %s",
                       set ? "accept" : "have", m->entries[done].index,
                       set ? "the vCPU's state is impossible" : "use --engine soft");
    return 0;
}

static int get(const struct engine *e, unsigned vcpu, const struct field *fields, unsigned n,
               struct cpu_state *s, struct sm_error *err)
{
    struct msrs m = {.head.nmsrs = n};

    for (unsigned i = 0; i < n; i++)
        m.entries[i].index = fields[i].index;
    int rc = move(e, vcpu, &m, false, err);
    for (unsigned i = 0; !rc && i < n; i++)
        memcpy((uint8_t *)s + fields[i].offset, &m.entries[i].data, sizeof m.entries[i].data);
    return rc;
}

static int set(const struct engine *e, unsigned vcpu, const struct field *fields, unsigned n,
               const struct cpu_state *s, struct sm_error *err)
{
    struct msrs m = {.head.nmsrs = n};

    for (unsigned i = 0; i < n; i++) {
        m.entries[i].index = fields[i].index;
        memcpy(&m.entries[i].data, (const uint8_t *)s + fields[i].offset, sizeof m.entries[i].data);
    }
    return move(e, vcpu, &m, true, err);
}

/* ---- TSC ---- */

/* The attribute came with Linux 5.16. Before it, the register itself says nearly the same; but KVM
 * takes a value that is within a second of the expected for an attempt to synchronise vCPUs. */
static int offset_attribute(const struct engine *e, unsigned vcpu, unsigned long request,
                            uint64_t *offset)
{
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)offset};

    return kvm_call(&e->host, e->vcpus[vcpu].fd, request, &attr);
}

static int get_tsc(const struct engine *e, unsigned vcpu, struct cpu_state *s, struct sm_error *err)
{
    struct msrs m = {.head.nmsrs = 1, .entries[0].index = MSR_TSC};

    if (offset_attribute(e, vcpu, KVM_GET_DEVICE_ATTR, &s->tsc_offset) == 0)
        return 0;
    int rc = move(e, vcpu, &m, false, err);
    s->tsc_offset = m.entries[0].data - __rdtsc();
    return rc;
}

static int set_tsc(const struct engine *e, unsigned vcpu, const struct cpu_state *s,
                   struct sm_error *err)
{
    struct msrs m = {.head.nmsrs = 1, .entries[0].index = MSR_TSC};
    uint64_t offset = s->tsc_offset;

    if (offset_attribute(e, vcpu, KVM_SET_DEVICE_ATTR, &offset) == 0)
        return 0;
    m.entries[0].data = __rdtsc() + offset;
    return move(e, vcpu, &m, true, err);
}

int kvm_msrs_reset(struct engine *e, unsigned vcpu, struct sm_error *err)
{
    struct cpu_state s;

    int rc = get(e, vcpu, plain, COUNT(plain), &s, err);
    if (rc)
        return rc;
    s.misc_enable = MISC_ENABLE_RESET;
    s.mtrr_def_type = MTRR_RESET;
    for (unsigned i = 0; i < COUNT(s.mtrr_fixed); i++)
        s.mtrr_fixed[i] = MTRR_WRITE_BACK;
    return set(e, vcpu, plain, COUNT(plain), &s, err);
}

int kvm_msrs_get(struct engine *e, unsigned vcpu, struct cpu_state *s, struct sm_error *err)
{
    int rc = get(e, vcpu, plain, COUNT(plain), s, err);

    rc = rc ? rc : get(e, vcpu, timers, COUNT(timers), s, err);
    return rc ? rc : get_tsc(e, vcpu, s, err);
}

int kvm_msrs_set(struct engine *e, unsigned vcpu, const struct cpu_state *s, struct sm_error *err)
{
    int rc = set(e, vcpu, plain, COUNT(plain), s, err);

    return rc ? rc : set_tsc(e, vcpu, s, err);
}

int kvm_msrs_set_timers(struct engine *e, unsigned vcpu, const struct cpu_state *s,
                        struct sm_error *err)
{
    return set(e, vcpu, timers, COUNT(timers), s, err);
}
