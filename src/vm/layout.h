/* SPDX-License-Identifier: Apache-2.0 */
/* Where things are in a VM's physical address space and I/O ports, and on which interrupt lines. */
#ifndef SM_VM_LAYOUT_H
#define SM_VM_LAYOUT_H

/* First MiB: what the kernel is handed at its start. It copies or parses these before reusing the
 * RAM; the ACPI tables stay (reserved in the memory map). */
#define LAYOUT_GDT 0x500ull
#define LAYOUT_BOOT_PARAMS 0x7000ull
#define LAYOUT_BOOT_STACK 0x8ff0ull
#define LAYOUT_PAGE_TABLES 0x9000ull /* PML4, PDPT, 4 page directories: 6 pages */
#define LAYOUT_CMDLINE 0x20000ull
#define LAYOUT_CMDLINE_MAX                                                                         \
    2047 /* bytes without the NUL: COMMAND_LINE_SIZE of x86 Linux less one                         \
          */
#define LAYOUT_LOW_RAM_END 0x9fc00ull
#define LAYOUT_ACPI 0xe0000ull
#define LAYOUT_ACPI_END 0x100000ull

/* Windows of image layers start above RAM, each on 2 MiB: what Linux wants of memory with struct
 * pages (a memory subsection); the first on a section of 128 MiB. */
#define LAYOUT_WINDOW_ALIGN (2ull << 20)
#define LAYOUT_WINDOWS_ALIGN (128ull << 20)

#define LAYOUT_VIRTIO_MMIO 0xd0000000ull
#define LAYOUT_VIRTIO_STRIDE 0x1000ull
#define LAYOUT_IOAPIC 0xfec00000ull
#define LAYOUT_LAPIC 0xfee00000ull

/* Ports. The power block: sleep control, sleep status (ACPI 6.5 §4.8.3.7), reset. */
#define LAYOUT_COM1 0x3f8
#define LAYOUT_POWER 0x600
#define LAYOUT_POWER_LEN 3
#define LAYOUT_SLEEP_CONTROL 0x600
#define LAYOUT_SLEEP_STATUS 0x601
#define LAYOUT_RESET 0x602
#define LAYOUT_RESET_VALUE 1
#define LAYOUT_S5_TYPE 5

/* Global system interrupts: one I/O APIC of 24 pins. Devices beyond them share (level, ORed). */
#define LAYOUT_GSI_COM1 4
#define LAYOUT_GSI_VIRTIO 5
#define LAYOUT_GSI_COUNT 24

#endif
