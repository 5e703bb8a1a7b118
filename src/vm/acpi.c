// SPDX-License-Identifier: Apache-2.0
/*
 * The tables describe a machine without legacy hardware: no PIC, PIT, CMOS clock, keyboard
 * controller, VGA or PCI, and power control by two registers at fixed ports.
 */
#include "vm/acpi.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/le.h"
#include "vm/aml.h"
#include "vm/layout.h"

#define HEADER_LEN 36
#define FADT_LEN 276

struct writer {
    struct mem *m;
    gpa_t next; /* where the next table goes */
};

static uint8_t checksum(const uint8_t *p, size_t len)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + p[i]);
    return (uint8_t)-sum;
}

static int put(struct writer *w, const void *data, size_t len, gpa_t *at, struct sm_error *err)
{
    if (len > LAYOUT_ACPI_END - w->next || mem_write(w->m, w->next, data, len) != 0)
        return err_set(err, SM_EINVAL, "the ACPI tables do not fit into their %llu KiB",
                       (LAYOUT_ACPI_END - LAYOUT_ACPI) >> 10);
    *at = w->next;
    w->next += (len + 15) & ~15ull;
    return 0;
}

/* t begins with HEADER_LEN bytes of room. */
static int put_table(struct writer *w, const char *signature, uint8_t revision, uint8_t *t,
                     size_t len, gpa_t *at, struct sm_error *err)
{
    memset(t, 0, HEADER_LEN);
    memcpy(t, signature, 4);
    le32_put(t + 4, (uint32_t)len);
    t[8] = revision;
    memcpy(t + 10, "SMACHN", 6);
    memcpy(t + 16, "SMACHINE", 8);
    le32_put(t + 24, 1);
    memcpy(t + 28, "SMCH", 4);
    le32_put(t + 32, 1);
    t[9] = checksum(t, len);
    return put(w, t, len, at, err);
}

/* Generic Address Structure of one byte-wide port. */
static void gas_port(uint8_t *p, uint16_t port)
{
    p[0] = 1; /* system I/O */
    p[1] = 8; /* bits */
    p[2] = 0;
    p[3] = 1; /* byte access */
    le64_put(p + 4, port);
}

static int put_fadt(struct writer *w, gpa_t dsdt, gpa_t *at, struct sm_error *err)
{
    enum { WBINVD = 1, PWR_BUTTON = 1 << 4, SLP_BUTTON = 1 << 5, RESET_REG_SUP = 1 << 10 };
    enum { FORCE_PHYSICAL_DESTINATION = 1 << 19, HW_REDUCED_ACPI = 1 << 20 };
    enum { NO_VGA = 1 << 2, NO_MSI = 1 << 3, NO_CMOS_RTC = 1 << 5 };
    uint8_t t[FADT_LEN] = {0};
    le32_put(t + 40, (uint32_t)dsdt);
    le16_put(t + 109, NO_VGA | NO_MSI | NO_CMOS_RTC);
    le32_put(t + 112, WBINVD | PWR_BUTTON | SLP_BUTTON | RESET_REG_SUP |
                          FORCE_PHYSICAL_DESTINATION | HW_REDUCED_ACPI);
    gas_port(t + 116, LAYOUT_RESET);
    t[128] = LAYOUT_RESET_VALUE;
    t[131] = 5; /* minor version */
    le64_put(t + 140, dsdt);
    gas_port(t + 244, LAYOUT_SLEEP_CONTROL);
    gas_port(t + 256, LAYOUT_SLEEP_STATUS);
    memcpy(t + 268, "SMACHINE", 8); /* hypervisor vendor */
    return put_table(w, "FACP", 6, t, sizeof t, at, err);
}

static int put_madt(struct writer *w, unsigned n_vcpus, gpa_t *at, struct sm_error *err)
{
    uint8_t t[HEADER_LEN + 8 + 12 + 8 * 255] = {0};
    size_t len = HEADER_LEN;
    le32_put(t + len, (uint32_t)LAYOUT_LAPIC);
    le32_put(t + len + 4, 0); /* flags: no 8259 */
    len += 8;
    for (unsigned i = 0; i < n_vcpus && i < 255; i++) {
        uint8_t *e = t + len;
        e[0] = 0; /* processor local APIC */
        e[1] = 8;
        e[2] = (uint8_t)i;  /* processor UID */
        e[3] = (uint8_t)i;  /* APIC id */
        le32_put(e + 4, 1); /* enabled */
        len += 8;
    }
    uint8_t *e = t + len;
    e[0] = 1; /* I/O APIC */
    e[1] = 12;
    le32_put(e + 4, (uint32_t)LAYOUT_IOAPIC);
    le32_put(e + 8, 0); /* first GSI */
    len += 12;
    return put_table(w, "APIC", 5, t, len, at, err);
}

static void dsdt_com1(struct aml *a)
{
    struct aml_crs crs = {0};
    size_t dev = aml_begin(a, AML_DEVICE);
    aml_nameseg(a, "COM1");
    aml_name(a, "_HID");
    aml_integer(a, 0x0105d041); /* EISAID("PNP0501") */
    aml_name(a, "_UID");
    aml_integer(a, 1);
    aml_crs_io(&crs, LAYOUT_COM1, 8);
    aml_crs_irq(&crs, LAYOUT_GSI_COM1, true, false);
    aml_crs_end(a, &crs);
    aml_end(a, dev);
}

static void dsdt_virtio(struct aml *a, unsigned index, const struct acpi_device *d)
{
    struct aml_crs crs = {0};
    char name[16];
    snprintf(name, sizeof name, "VR%02X", index & 0xff);
    size_t dev = aml_begin(a, AML_DEVICE);
    aml_nameseg(a, name);
    aml_name(a, "_HID");
    aml_string(a, "LNRO0005");
    aml_name(a, "_UID");
    aml_integer(a, index);
    aml_crs_memory32(&crs, (uint32_t)d->addr, d->len);
    aml_crs_irq(&crs, d->gsi, false, d->shared);
    aml_crs_end(a, &crs);
    aml_end(a, dev);
}

static int put_dsdt(struct writer *w, const struct acpi_config *config, gpa_t *at,
                    struct sm_error *err)
{
    struct aml a = {0};
    uint8_t room[HEADER_LEN] = {0};
    aml_bytes(&a, room, sizeof room);
    size_t scope = aml_begin(&a, AML_SCOPE);
    aml_nameseg(&a, "\\_SB_");
    dsdt_com1(&a);
    for (unsigned i = 0; i < config->n_devices; i++)
        dsdt_virtio(&a, i, &config->devices[i]);
    aml_end(&a, scope);
    aml_name(&a, "\\_S5_");
    size_t package = aml_begin(&a, AML_PACKAGE);
    uint8_t count = 4;
    aml_bytes(&a, &count, 1);
    aml_integer(&a, LAYOUT_S5_TYPE);
    for (unsigned i = 1; i < count; i++)
        aml_integer(&a, 0);
    aml_end(&a, package);
    int rc = a.failed ? err_set(err, SM_ENOMEM, "out of memory")
                      : put_table(w, "DSDT", 2, a.b.data, a.b.len, at, err);
    buf_fini(&a.b);
    return rc;
}

int acpi_write(struct mem *m, const struct acpi_config *config, gpa_t *rsdp, struct sm_error *err)
{
    struct writer w = {.m = m, .next = LAYOUT_ACPI + 64}; /* the root pointer comes first */
    gpa_t dsdt = 0, fadt = 0, madt = 0, xsdt = 0;
    int rc = put_dsdt(&w, config, &dsdt, err);
    if (!rc)
        rc = put_fadt(&w, dsdt, &fadt, err);
    if (!rc)
        rc = put_madt(&w, config->n_vcpus, &madt, err);
    if (rc)
        return rc;
    uint8_t x[HEADER_LEN + 16];
    le64_put(x + HEADER_LEN, fadt);
    le64_put(x + HEADER_LEN + 8, madt);
    rc = put_table(&w, "XSDT", 1, x, sizeof x, &xsdt, err);
    if (rc)
        return rc;

    uint8_t r[36] = {0};
    memcpy(r, "RSD PTR ", 8);
    memcpy(r + 9, "SMACHN", 6);
    r[15] = 2; /* revision */
    le32_put(r + 20, sizeof r);
    le64_put(r + 24, xsdt);
    r[8] = checksum(r, 20);
    r[32] = checksum(r, sizeof r);
    w.next = LAYOUT_ACPI;
    return put(&w, r, sizeof r, rsdp, err);
}
