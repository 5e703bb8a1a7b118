/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables of the machine: RSDP, XSDT, FADT (hardware-reduced), MADT, DSDT. Written into guest
 * RAM at LAYOUT_ACPI. Spec: ACPI 6.5, chapters 5 (tables), 6.4 (resource data), 20 (AML).
 */
#ifndef SM_VM_ACPI_H
#define SM_VM_ACPI_H

#include <stdint.h>

#include "base/err.h"
#include "hw/mem.h"

struct acpi_device { /* one virtio-mmio transport */
    gpa_t addr;
    uint32_t len;
    uint32_t gsi;
    bool shared; /* the interrupt line is */
};

struct acpi_config {
    unsigned n_vcpus;                  /* local APIC ids 0 ... n-1 */
    const struct acpi_device *devices; /* borrowed during the call */
    unsigned n_devices;
};

/* Write the tables; *rsdp is where the root pointer is. SM_EINVAL if they do not fit. */
int acpi_write(struct mem *m, const struct acpi_config *config, gpa_t *rsdp, struct sm_error *err);

#endif
