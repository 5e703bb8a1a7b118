/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing the few AML constructs that a DSDT of fixed devices needs (ACPI 6.5, chapter 20.2;
 * resource descriptors 6.4). Running out of memory is remembered in `failed` and checked once, at
 * the end.
 */
#ifndef SM_VM_AML_H
#define SM_VM_AML_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct aml {
    struct buf b; /* owned: buf_fini */
    bool failed;
};

enum aml_op {
    AML_NAME = 0x08,
    AML_BUFFER = 0x11,
    AML_PACKAGE = 0x12,
    AML_SCOPE = 0x10,
    AML_DEVICE = 0x5b82, /* two bytes: ExtOpPrefix first */
};

void aml_bytes(struct aml *a, const void *data, size_t len);
/* name: four characters; a root name has '\\' before them. */
void aml_nameseg(struct aml *a, const char *name);
void aml_integer(struct aml *a, uint64_t value);
void aml_string(struct aml *a, const char *text);

/* An object with a package length: begin returns a mark for its end. */
size_t aml_begin(struct aml *a, enum aml_op op);
void aml_end(struct aml *a, size_t mark);

/* Name(name, ...): the value follows. */
void aml_name(struct aml *a, const char *name);

/* Name(_CRS, ResourceTemplate() {...}): descriptors go between. */
struct aml_crs {
    struct aml body;
};
void aml_crs_memory32(struct aml_crs *c, uint32_t addr, uint32_t len);
void aml_crs_io(struct aml_crs *c, uint16_t port, uint8_t len);
void aml_crs_irq(struct aml_crs *c, uint32_t gsi, bool edge, bool shared);
/* Emits it and frees c's bytes. */
void aml_crs_end(struct aml *a, struct aml_crs *c);

#endif
