/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The 64-bit Linux boot protocol: what must be in guest RAM and in the registers of the first vCPU
 * when the kernel's startup_64 gets control. Spec: Linux Documentation/x86/boot.rst ("64-bit BOOT
 * PROTOCOL"), zero-page.rst; Intel SDM vol. 3 (paging, segmentation).
 */
#ifndef SM_VM_BOOT_H
#define SM_VM_BOOT_H

#include "base/err.h"
#include "cpu/engine.h"
#include "hw/mem.h"
#include "vm/kernel.h"

struct boot_config {
    const struct kernel_info *kernel; /* borrowed during the call, like the rest */
    const char *initramfs;            /* path, or NULL */
    const char *cmdline;              /* at most LAYOUT_CMDLINE_MAX bytes */
    gpa_t rsdp;
};

#define BOOT_E820_RAM 1
#define BOOT_E820_RESERVED 2

struct boot_e820 { /* as in boot_params */
    uint64_t addr, len;
    uint32_t type;
} __attribute__((packed));

#define BOOT_E820_MAX 8

/* The memory map for the guest: RAM and the reserved parts of it; windows are not in it. Returns
 * the number of rows. */
unsigned boot_e820_table(const struct mem *m, struct boot_e820 rows[BOOT_E820_MAX]);

/* Load the initramfs, write boot_params, command line, page tables and GDT, and turn *state, the
 * vCPU's after power-up, into what the kernel expects. */
int boot_setup(struct mem *m, const struct boot_config *config, struct cpu_state *state,
               struct sm_error *err);

#endif
