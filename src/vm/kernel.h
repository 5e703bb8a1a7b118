/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Putting a Linux x86-64 kernel into guest RAM: an ELF vmlinux, or a bzImage whose compressed
 * vmlinux is unpacked here, on the host, as a stream straight into its place (no copy of it is ever
 * held). Every byte of the file is taken as hostile: a load ends in an error, never outside of
 * guest RAM.
 *
 * Spec: Linux Documentation/x86/boot.rst ("The Linux/x86 Boot Protocol"), ELF-64 Object File
 * Format 1.5.
 */
#ifndef SM_VM_KERNEL_H
#define SM_VM_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "hw/mem.h"

#define KERNEL_MIN_GPA 0x100000ull         /* nothing loads below: the boot data lives there */
#define KERNEL_MAX_UNPACKED (256ull << 20) /* bytes that a payload may unpack to */
#define KERNEL_SETUP_OFFSET 0x1f1          /* of the setup header in a bzImage and in boot_params */
#define KERNEL_SETUP_MAX 0x7f              /* bytes of room for it in boot_params */

struct kernel_info {
    gpa_t entry; /* startup_64, physical */
    gpa_t end;   /* first byte after everything that was loaded (bss included) */
    uint8_t
        setup_header[KERNEL_SETUP_MAX]; /* of the bzImage, unchecked; synthetic for an ELF file */
    size_t setup_len;
};

/* Load the kernel file into m, whose RAM must be fresh (zero: bss is not cleared again). Errors
 * name the path. What was loaded before an error stays in m. */
int kernel_load(const char *path, struct mem *m, struct kernel_info *out, struct sm_error *err);
/* The same from an open regular file (borrowed); name is for messages. */
int kernel_load_fd(int fd, const char *name, struct mem *m, struct kernel_info *out,
                   struct sm_error *err);

/* ---- Between kernel.c, payload.c and elf.c ---- */

/* A forward-only stream of bytes. read returns 1 ... len bytes, 0 at the end, or -1 with err set.
 */
struct kernel_stream {
    int64_t (*read)(struct kernel_stream *s, void *data, size_t len, struct sm_error *err);
};

/* bytes [offset, offset+len) of a file */
struct file_stream {
    struct kernel_stream base;
    int fd; /* borrowed */
    uint64_t offset, left;
};
void file_stream_init(struct file_stream *f, int fd, uint64_t offset, uint64_t len);

/* Unpacks the payload of a bzImage: gzip, bzip2, lzma, xz, lz4 or zstd, or an ELF file as it is. At
 * most KERNEL_MAX_UNPACKED bytes come out of it. src is borrowed. */
struct payload;
int payload_new(struct file_stream *src, struct payload **out, struct sm_error *err);
void payload_free(struct payload *p);
struct kernel_stream *payload_stream(struct payload *p);

/* Load the PT_LOAD segments of the ELF file in s at their physical addresses. Sets out->entry and
 * end. */
int elf_load(struct kernel_stream *s, struct mem *m, struct kernel_info *out, struct sm_error *err);

#endif
