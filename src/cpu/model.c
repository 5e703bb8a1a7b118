/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sources: Intel SDM vol. 2 CPUID, AMD APM vol. 3 appendix E, Linux
 * Documentation/virt/kvm/x86/cpuid.rst; design/soft-engine.md §3.
 *
 * Family and model are Zen 2 and Westmere: Linux applies no erratum there that shows under a
 * hypervisor, and neither implies AVX.
 */
#include <cpuid.h>
#include <stddef.h>

#include "cpu/model.h"

#define SIGNATURE_AMD 0x00830f10u   /* family 17h, model 31h, stepping 0 */
#define SIGNATURE_INTEL 0x000206c1u /* family 6, model 2Ch, stepping 1 */

/* 1.ECX */
#define F1C_SSE3 (1u << 0)
#define F1C_PCLMUL (1u << 1)
#define F1C_SSSE3 (1u << 9)
#define F1C_CX16 (1u << 13)
#define F1C_SSE41 (1u << 19)
#define F1C_SSE42 (1u << 20)
#define F1C_X2APIC (1u << 21)
#define F1C_POPCNT (1u << 23)
#define F1C_TSC_DEADLINE (1u << 24)
#define F1C_AES (1u << 25)
#define F1C_RDRAND (1u << 30)
#define F1C_HYPERVISOR (1u << 31)
#define F1C_NATIVE                                                                                 \
    (F1C_SSE3 | F1C_PCLMUL | F1C_SSSE3 | F1C_CX16 | F1C_SSE41 | F1C_SSE42 | F1C_POPCNT | F1C_AES | \
     F1C_RDRAND)
/* 1.EDX: FPU DE PSE TSC MSR PAE CX8 APIC SEP MTRR PGE CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2 */
#define F1D_MODEL 0x078bbb7du
#define F1D_HTT (1u << 28)
#define F1D_NATIVE 0x07808111u /* FPU TSC CX8 CMOV MMX FXSR SSE SSE2 */
/* 7.0 */
#define F7B_FSGSBASE (1u << 0)
#define F7B_TSC_ADJUST (1u << 1)
#define F7B_SMEP (1u << 7)
#define F7B_ERMS (1u << 9)
#define F7D_FSRM (1u << 4)
/* 80000001h */
#define FXC_LAHF (1u << 0)
#define FXC_CMP_LEGACY (1u << 1)
#define FXC_PREFETCHW (1u << 8)
#define FXD_MODEL 0x2c100800u      /* SYSCALL NX PDPE1GB RDTSCP LM */
#define FXD_AMD_SHARED 0x0183b37du /* bits that AMD repeats from 1.EDX, of those in the model */

#define KVM_FEATURES 0x0100000au /* no I/O delay, clocksource2, stable clock */

static void set(uint32_t out[4], uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    out[0] = a;
    out[1] = b;
    out[2] = c;
    out[3] = d;
}

/* Bits that hold the APIC ids of n vCPUs. */
static unsigned id_bits(unsigned n)
{
    unsigned bits = 0;

    while (1u << bits < n)
        bits++;
    return bits;
}

static uint32_t text4(const char *s)
{
    return (uint32_t)(uint8_t)s[0] | (uint32_t)(uint8_t)s[1] << 8 | (uint32_t)(uint8_t)s[2] << 16 |
           (uint32_t)(uint8_t)s[3] << 24;
}

/* Intel's deterministic cache parameters: 32 KiB L1, 256 KiB L2, 8 ways of 64-byte lines each. */
static void caches(const struct model_cpu *cpu, uint32_t subleaf, uint32_t out[4])
{
    uint32_t cores = ((1u << id_bits(cpu->n_vcpus)) - 1) << 26;
    uint32_t geometry = 7u << 22 | 63;

    if (subleaf == 0)
        set(out, cores | 0x121, geometry, 63, 0);
    else if (subleaf == 1)
        set(out, cores | 0x122, geometry, 63, 0);
    else if (subleaf == 2)
        set(out, cores | 0x143, geometry, 511, 0);
}

static void topology(const struct model_cpu *cpu, uint32_t subleaf, uint32_t out[4])
{
    out[2] = subleaf & 0xff;
    out[3] = cpu->index;
    if (subleaf == 0) { /* one thread per core */
        out[1] = 1;
        out[2] |= 1u << 8;
    } else if (subleaf == 1) {
        out[0] = id_bits(cpu->n_vcpus);
        out[1] = cpu->n_vcpus;
        out[2] |= 2u << 8;
    }
}

static void basic(const struct model_cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    const char *vendor = cpu->amd ? "AuthenticAMD" : "GenuineIntel";

    switch (leaf) {
    case 0:
        set(out, 0xb, text4(vendor), text4(vendor + 8), text4(vendor + 4));
        break;
    case 1:
        set(out, cpu->amd ? SIGNATURE_AMD : SIGNATURE_INTEL,
            cpu->index << 24 | cpu->n_vcpus << 16 | 8u << 8,
            F1C_NATIVE | F1C_X2APIC | F1C_TSC_DEADLINE | F1C_HYPERVISOR,
            F1D_MODEL | (cpu->n_vcpus > 1 ? F1D_HTT : 0));
        break;
    case 2: /* "see leaf 4" */
        if (!cpu->amd)
            out[0] = 0x0000ff01;
        break;
    case 4:
        if (!cpu->amd)
            caches(cpu, subleaf, out);
        break;
    case 6: /* the APIC timer never stops */
        out[0] = 1u << 2;
        break;
    case 7:
        if (subleaf == 0)
            set(out, 0, F7B_FSGSBASE | F7B_TSC_ADJUST | F7B_SMEP | F7B_ERMS, 0, F7D_FSRM);
        break;
    case 0xb:
        topology(cpu, subleaf, out);
        break;
    }
}

static void hypervisor(const struct model_cpu *cpu, uint32_t leaf, uint32_t out[4])
{
    switch (leaf) {
    case 0x40000000:
        set(out, 0x40000010, text4("KVMK"), text4("VMKV"), text4("M\0\0\0"));
        break;
    case 0x40000001:
        out[0] = KVM_FEATURES;
        break;
    case 0x40000010: /* kHz of the TSC and of the APIC timer's bus */
        set(out, cpu->tsc_khz, 1000000, 0, 0);
        break;
    }
}

static void extended(const struct model_cpu *cpu, uint32_t leaf, uint32_t out[4])
{
    static const char brand[48] = "supermachine virtual CPU, model v2";
    const char *vendor = cpu->amd ? "AuthenticAMD" : NULL;
    unsigned n = cpu->n_vcpus;

    switch (leaf) {
    case 0x80000000:
        set(out, 0x80000008, 0, 0, 0);
        if (vendor != NULL)
            set(out, 0x80000008, text4(vendor), text4(vendor + 8), text4(vendor + 4));
        break;
    case 0x80000001:
        set(out, cpu->amd ? SIGNATURE_AMD : 0, 0,
            FXC_LAHF | FXC_PREFETCHW | (cpu->amd && n > 1 ? FXC_CMP_LEGACY : 0),
            FXD_MODEL | (cpu->amd ? F1D_MODEL & FXD_AMD_SHARED : 0));
        break;
    case 0x80000002:
    case 0x80000003:
    case 0x80000004: {
        const char *s = brand + (leaf - 0x80000002) * 16;

        set(out, text4(s), text4(s + 4), text4(s + 8), text4(s + 12));
        break;
    }
    case 0x80000005: /* AMD: 32 KiB, 8 ways */
        if (cpu->amd)
            set(out, 0, 0, 0x20080140, 0x20080140);
        break;
    case 0x80000006: /* L2: AMD 512 KiB, Intel 256 KiB, 8 ways */
        out[2] = cpu->amd ? 0x02006140 : 0x01006040;
        break;
    case 0x80000008:
        out[0] = 48u << 8 | MODEL_PHYS_BITS;
        if (cpu->amd)
            out[2] = id_bits(n) << 12 | (n - 1);
        break;
    }
}

void model_cpuid(const struct model_cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    set(out, 0, 0, 0, 0);
    if (leaf >> 30 == 1)
        hypervisor(cpu, leaf, out);
    else if (leaf >> 31)
        extended(cpu, leaf, out);
    else
        basic(cpu, leaf, subleaf, out);
}

bool model_host_is_amd(void)
{
    uint32_t eax = 0, ebx, ecx = 0, edx;

    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    return ebx == 0x68747541; /* "Auth": Hygon and others get the Intel model */
}

/* ---- what the host must have ---- */

struct requirement {
    uint8_t reg; /* index into words of host() */
    uint8_t bit;
    const char *name;
};

static const struct requirement required[] = {
    {0, 0, "sse3"},    {0, 1, "pclmulqdq"}, {0, 9, "ssse3"}, {0, 13, "cx16"},   {0, 19, "sse4.1"},
    {0, 20, "sse4.2"}, {0, 23, "popcnt"},   {0, 25, "aes"},  {0, 30, "rdrand"}, {1, 4, "tsc"},
    {1, 8, "cx8"},     {1, 15, "cmov"},     {1, 23, "mmx"},  {1, 24, "fxsr"},   {1, 25, "sse"},
    {1, 26, "sse2"},   {3, 0, "lahf"},
};

bool model_missing(const char **name)
{
    uint32_t a, b = 0, c = 0, d = 0, words[4] = {0, 0, 0, 0};

    if (__get_cpuid(1, &a, &b, &c, &d)) {
        words[0] = c;
        words[1] = d;
    }
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d))
        words[2] = b;
    if (__get_cpuid(0x80000001, &a, &b, &c, &d))
        words[3] = c;
    for (unsigned i = 0; i < sizeof required / sizeof required[0]; i++) {
        if (!(words[required[i].reg] >> required[i].bit & 1)) {
            *name = required[i].name;
            return true;
        }
    }
    return false;
}
