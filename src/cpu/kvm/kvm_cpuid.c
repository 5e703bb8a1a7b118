/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CPU model as KVM takes it. The guest gets exactly the model's leaves, whatever else this host
 * has: that is what makes a snapshot portable. KVM keeps a guest from using in CR4, XCR0 and MSRs
 * what its CPUID does not show; user-level instructions beyond the model it cannot hide.
 */
#include <stdlib.h>
#include <string.h>

#include "cpu/kvm/kvm.h"

#define MAX_ENTRIES 128

/* Leaves of the model; those with subleaves are listed one by one. */
static const struct {
    uint32_t leaf, subleaf;
    bool indexed;
} leaves[] = {
    {0x0, 0, false},        {0x1, 0, false},        {0x2, 0, false},        {0x4, 0, true},
    {0x4, 1, true},         {0x4, 2, true},         {0x4, 3, true},         {0x6, 0, false},
    {0x7, 0, true},         {0xb, 0, true},         {0xb, 1, true},         {0xb, 2, true},
    {0xd, 0, true},         {0xd, 1, true},         {0xd, 2, true},         {0x40000000, 0, false},
    {0x40000001, 0, false}, {0x40000010, 0, false}, {0x80000000, 0, false}, {0x80000001, 0, false},
    {0x80000002, 0, false}, {0x80000003, 0, false}, {0x80000004, 0, false}, {0x80000005, 0, false},
    {0x80000006, 0, false}, {0x80000008, 0, false},
};
#define N_LEAVES (sizeof leaves / sizeof leaves[0])

struct table {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 entries[MAX_ENTRIES];
};

static const struct kvm_cpuid_entry2 *find(const struct table *t, uint32_t leaf, uint32_t subleaf)
{
    for (unsigned i = 0; i < t->head.nent; i++)
        if (t->entries[i].function == leaf && t->entries[i].index == subleaf)
            return &t->entries[i];
    return NULL;
}

/* Bits of the model that KVM must be able to give a guest. Left out: what it emulates without
 * saying so here (HTT, TSC-deadline, hypervisor), and mere hints (ERMS, CmpLegacy, PREFETCHW). */
static const struct {
    uint32_t leaf;
    unsigned reg; /* EAX EBX ECX EDX */
    uint32_t except;
} checked[] = {
    {0x1, 2, 1u << 24 | 1u << 31},      {0x1, 3, 1u << 28}, {0x7, 1, 1u << 9},
    {0x80000001, 2, 1u << 1 | 1u << 8}, {0x80000001, 3, 0}, {0x40000001, 0, 0},
};

static int check_supported(const struct table *host, const struct model_cpu *cpu,
                           struct sm_error *err)
{
    for (size_t i = 0; i < sizeof checked / sizeof checked[0]; i++) {
        const struct kvm_cpuid_entry2 *has = find(host, checked[i].leaf, 0);
        const uint32_t regs[4] = {has ? has->eax : 0, has ? has->ebx : 0, has ? has->ecx : 0,
                                  has ? has->edx : 0};
        uint32_t want[4];

        model_cpuid(cpu, checked[i].leaf, 0, want);
        uint32_t missing = want[checked[i].reg] & ~regs[checked[i].reg] & ~checked[i].except;
        if (missing)
            return err_set(err, SM_EENGINE,
                           "kvm: this host cannot show a guest bit %d of CPUID %#x %s, which CPU "
                           "model %s has; use --engine soft (SM_ENGINE_SOFT)",
                           __builtin_ctz(missing), checked[i].leaf,
                           &"EAX\0EBX\0ECX\0EDX"[4 * checked[i].reg], model_name(cpu->id));
    }
    return 0;
}

static void fill(struct table *t, const struct model_cpu *cpu)
{
    uint32_t out[4];

    memset(t, 0, sizeof *t);
    model_cpuid(cpu, 0, 0, out);
    const uint32_t highest = out[0];
    for (unsigned i = 0; i < N_LEAVES; i++) {
        /* KVM fills in parts of a leaf (the XSAVE sizes) even where the model does not have it. */
        if (leaves[i].leaf < 0x40000000 && leaves[i].leaf > highest)
            continue;
        model_cpuid(cpu, leaves[i].leaf, leaves[i].subleaf, out);
        t->entries[t->head.nent++] = (struct kvm_cpuid_entry2){
            .function = leaves[i].leaf,
            .index = leaves[i].subleaf,
            .flags = leaves[i].indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
            .eax = out[0],
            .ebx = out[1],
            .ecx = out[2],
            .edx = out[3],
        };
    }
}

/* The same for the engine's model; one that nobody asked for gives way to v2. */
static int check_model(struct engine *e, const struct table *host, struct model_cpu *cpu,
                       struct sm_error *err)
{
    int rc = check_supported(host, cpu, err);

    if (rc && !e->config.cpu_model && cpu->id > MODEL_V2) {
        cpu->id = e->model = MODEL_V2;
        rc = check_supported(host, cpu, err);
    }
    return rc;
}

int kvm_set_cpuid(struct engine *e, unsigned vcpu, struct sm_error *err)
{
    int khz = kvm_call(&e->host, e->vcpus[vcpu].fd, KVM_GET_TSC_KHZ, NULL);
    struct model_cpu cpu = {.id = e->model,
                            .amd = e->amd,
                            .index = vcpu,
                            .n_vcpus = e->config.n_vcpus,
                            .tsc_khz = (uint32_t)khz};
    int rc = 0;

    if (khz <= 0)
        return err_set(err, SM_EENGINE,
                       "kvm: this host's time stamp counter has no known rate; use --engine soft "
                       "(SM_ENGINE_SOFT)");
    e->tsc_khz = (uint32_t)khz;
    struct table *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(err, SM_ENOMEM, "out of memory for CPUID");
    t->head.nent = MAX_ENTRIES;
    if (kvm_call(&e->host, e->kvm_fd, KVM_GET_SUPPORTED_CPUID, t) < 0)
        rc = kvm_failed(err, "KVM_GET_SUPPORTED_CPUID");
    else
        rc = check_model(e, t, &cpu, err);
    fill(t, &cpu);
    if (!rc && kvm_call(&e->host, e->vcpus[vcpu].fd, KVM_SET_CPUID2, t) < 0)
        rc = kvm_failed(err, "KVM_SET_CPUID2");
    free(t);
    return rc;
}
