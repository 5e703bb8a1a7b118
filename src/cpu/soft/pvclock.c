/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvm-clock: the two structures that the guest asks for by MSR. Source: Linux
 * Documentation/virt/kvm/x86/msr.rst and asm/pvclock-abi.h.
 *
 * The rate never changes while a VM runs, so a page is written once. Every vCPU gets the same pair
 * (the clock's start, see struct soft_clock), which is what the TSC_STABLE flag promises.
 */
#include "cpu/soft/sys.h"
#include "hw/mem.h"

#define TSC_STABLE 1u

struct system_time_page {
    uint32_t version; /* odd while the rest changes */
    uint32_t pad;
    uint64_t tsc_timestamp;
    uint64_t system_time; /* ns */
    uint32_t mul;
    int8_t shift;
    uint8_t flags;
    uint8_t pad2[2];
} __attribute__((packed));

struct wall_clock_page {
    uint32_t version;
    uint32_t sec, nsec; /* real time when system time was 0 */
} __attribute__((packed));

_Static_assert(sizeof(struct system_time_page) == 32, "ABI");
_Static_assert(sizeof(struct wall_clock_page) == 12, "ABI");

/* The next odd version after what the guest left there. */
static uint32_t odd_after(uint32_t version)
{
    return (version + 1) | 1;
}

static void publish(void)
{
    atomic_thread_fence(memory_order_seq_cst);
}

static void write_system_time(struct soft_cpu *cpu, volatile struct system_time_page *page)
{
    uint32_t version = odd_after(page->version);

    page->version = version;
    publish();
    page->pad = 0;
    page->tsc_timestamp = cpu->clock.tsc0 + cpu->tsc_offset;
    page->system_time = cpu->clock.ns0;
    page->mul = cpu->clock.mul;
    page->shift = cpu->clock.shift;
    page->flags = TSC_STABLE;
    page->pad2[0] = page->pad2[1] = 0;
    publish();
    page->version = version + 1;
}

static void write_wall_clock(struct soft_cpu *cpu, volatile struct wall_clock_page *page)
{
    uint64_t boot = time_realtime_ns() - time_ns(&cpu->clock, time_host_tsc());
    uint32_t version = odd_after(page->version);

    page->version = version;
    publish();
    page->sec = (uint32_t)(boot / 1000000000u);
    page->nsec = (uint32_t)(boot % 1000000000u);
    publish();
    page->version = version + 1;
}

/* Addresses come from the guest: one that is not all writable memory is simply not written, as in
 * KVM. */
void pvclock_restore(struct soft_cpu *cpu)
{
    gpa_t gpa = cpu->kvm_system_time & ~1ull;
    struct mem *mem = soft_mem(cpu);
    void *page;

    if (!(cpu->kvm_system_time & 1))
        return;
    page = mem_ptr_write(mem, gpa, sizeof(struct system_time_page));
    if (page != NULL) {
        write_system_time(cpu, page);
        mem_wrote(mem, gpa, sizeof(struct system_time_page));
    }
}

void pvclock_system_time(struct soft_cpu *cpu)
{
    soft_fp_leave(cpu);
    pvclock_restore(cpu);
    soft_fp_enter(cpu);
}

void pvclock_wall_clock(struct soft_cpu *cpu)
{
    gpa_t gpa = cpu->kvm_wall_clock;
    struct mem *mem = soft_mem(cpu);
    void *page;

    if (gpa == 0)
        return;
    soft_fp_leave(cpu);
    page = mem_ptr_write(mem, gpa, sizeof(struct wall_clock_page));
    if (page != NULL) {
        write_wall_clock(cpu, page);
        mem_wrote(mem, gpa, sizeof(struct wall_clock_page));
    }
    soft_fp_enter(cpu);
}
