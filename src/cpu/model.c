/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sources: Intel SDM vol. 2 CPUID, AMD APM vol. 3 appendix E, Linux
 * Documentation/virt/kvm/x86/cpuid.rst; design/soft-engine.md §3.
 *
 * Family and model are Zen 2 and, for v2, Westmere, for v3, Haswell-EP: Linux applies no erratum
 * there that shows under a hypervisor, and Zen 2 and Westmere do not imply AVX.
 */
#include <stddef.h>

#include "cpu/model.h"

#define SIGNATURE_AMD 0x00830f10u      /* family 17h, model 31h, stepping 0 */
#define SIGNATURE_INTEL_V2 0x000206c1u /* family 6, model 2Ch, stepping 1 */
#define SIGNATURE_INTEL_V3 0x000306f2u /* family 6, model 3Fh, stepping 2 */

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
#define F1C_FMA (1u << 12)
#define F1C_MOVBE (1u << 22)
#define F1C_XSAVE (1u << 26)
#define F1C_OSXSAVE (1u << 27)
#define F1C_AVX (1u << 28)
#define F1C_F16C (1u << 29)
#define F1C_V3 (F1C_FMA | F1C_MOVBE | F1C_XSAVE | F1C_AVX | F1C_F16C)
/* 1.EDX: FPU DE PSE TSC MSR PAE CX8 APIC SEP MTRR PGE CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2 */
#define F1D_MODEL 0x078bbb7du
#define F1D_HTT (1u << 28)
/* 7.0 */
#define F7B_FSGSBASE (1u << 0)
#define F7B_TSC_ADJUST (1u << 1)
#define F7B_SMEP (1u << 7)
#define F7B_ERMS (1u << 9)
#define F7B_BMI1 (1u << 3)
#define F7B_AVX2 (1u << 5)
#define F7B_BMI2 (1u << 8)
#define F7B_V3 (F7B_BMI1 | F7B_AVX2 | F7B_BMI2)
#define F7D_FSRM (1u << 4)
/* 0xd: x87, SSE and AVX in the standard format */
#define XS_COMPONENTS 7
#define XS_AVX 4
#define XS_AVX_BYTES 256
#define XS_AVX_AT 576
#define XS_BYTES (XS_AVX_AT + XS_AVX_BYTES)
#define XS1A_XSAVEOPT (1u << 0)
/* 80000001h */
#define FXC_LAHF (1u << 0)
#define FXC_CMP_LEGACY (1u << 1)
#define FXC_LZCNT (1u << 5)
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

static uint32_t signature(const struct model_cpu *cpu)
{
    if (cpu->amd)
        return SIGNATURE_AMD;
    return cpu->id >= MODEL_V3 ? SIGNATURE_INTEL_V3 : SIGNATURE_INTEL_V2;
}

static uint32_t features_1c(const struct model_cpu *cpu)
{
    uint32_t bits = F1C_NATIVE | F1C_X2APIC | F1C_TSC_DEADLINE | F1C_HYPERVISOR;

    if (cpu->id >= MODEL_V3)
        bits |= F1C_V3 | (cpu->osxsave ? F1C_OSXSAVE : 0);
    return bits;
}

static void extended_state(const struct model_cpu *cpu, uint32_t subleaf, uint32_t out[4])
{
    if (cpu->id < MODEL_V3)
        return;
    if (subleaf == 0)
        set(out, XS_COMPONENTS, cpu->xcr0 & XS_AVX ? XS_BYTES : XS_AVX_AT, XS_BYTES, 0);
    else if (subleaf == 1)
        out[0] = XS1A_XSAVEOPT;
    else if (subleaf == 2)
        set(out, XS_AVX_BYTES, XS_AVX_AT, 0, 0);
}

static void basic(const struct model_cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    const char *vendor = cpu->amd ? "AuthenticAMD" : "GenuineIntel";

    switch (leaf) {
    case 0:
        set(out, cpu->id >= MODEL_V3 ? 0xd : 0xb, text4(vendor), text4(vendor + 8),
            text4(vendor + 4));
        break;
    case 1:
        set(out, signature(cpu), cpu->index << 24 | cpu->n_vcpus << 16 | 8u << 8, features_1c(cpu),
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
            set(out, 0,
                F7B_FSGSBASE | F7B_TSC_ADJUST | F7B_SMEP | F7B_ERMS |
                    (cpu->id >= MODEL_V3 ? F7B_V3 : 0),
                0, F7D_FSRM);
        break;
    case 0xb:
        topology(cpu, subleaf, out);
        break;
    case 0xd:
        extended_state(cpu, subleaf, out);
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
    static const char brands[][48] = {[MODEL_V2] = "supermachine virtual CPU, model v2",
                                      [MODEL_V3] = "supermachine virtual CPU, model v3"};
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
            FXC_LAHF | FXC_PREFETCHW | (cpu->amd && n > 1 ? FXC_CMP_LEGACY : 0) |
                (cpu->id >= MODEL_V3 ? FXC_LZCNT : 0),
            FXD_MODEL | (cpu->amd ? F1D_MODEL & FXD_AMD_SHARED : 0));
        break;
    case 0x80000002:
    case 0x80000003:
    case 0x80000004: {
        const char *s = brands[cpu->id] + (leaf - 0x80000002) * 16;

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
