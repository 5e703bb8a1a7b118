// SPDX-License-Identifier: Apache-2.0
/* The kernel loader: every payload compression, and a table of broken files, each of which must be
 * refused with an error that names the file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <archive.h>
#include <archive_entry.h>
#include <elf.h>
#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/le.h"
#include "vm/kernel.h"

#define RAM_BYTES (64ull << 20)
#define TEXT_GPA 0x1000000ull
#define TEXT_LEN 300000u
#define BSS_LEN 50000u
#define HEADER_BYTES (sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr))

/* A vmlinux with a text segment of a known pattern and a data segment that begins in the ELF
 * header. */
static void make_elf(struct buf *out)
{
    Elf64_Ehdr e = {.e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = 1};
    memcpy(e.e_ident, ELFMAG, SELFMAG);
    e.e_ident[EI_CLASS] = ELFCLASS64;
    e.e_ident[EI_DATA] = ELFDATA2LSB;
    e.e_entry = TEXT_GPA + 16;
    e.e_phoff = sizeof e;
    e.e_phentsize = sizeof(Elf64_Phdr);
    e.e_phnum = 2;
    Elf64_Phdr p[2] = {
        {.p_type = PT_LOAD,
         .p_offset = 4096,
         .p_paddr = TEXT_GPA,
         .p_filesz = TEXT_LEN,
         .p_memsz = TEXT_LEN + BSS_LEN},
        {.p_type = PT_LOAD, .p_offset = 0, .p_paddr = 0x200000, .p_filesz = 1000, .p_memsz = 1000},
    };
    assert_int_equal(buf_append(out, &e, sizeof e), 0);
    assert_int_equal(buf_append(out, p, sizeof p), 0);
    assert_int_equal(buf_fill(out, 0xee, 4096 - HEADER_BYTES), 0);
    for (uint32_t i = 0; i < TEXT_LEN; i++) {
        uint8_t b = (uint8_t)(i * 7 + (i >> 9));
        assert_int_equal(buf_append(out, &b, 1), 0);
    }
    assert_int_equal(buf_append(out, "relocations, not loaded", 23), 0);
}

static void make_bzimage(const struct buf *payload, struct buf *out)
{
    uint8_t setup[2 * 512] = {0};
    setup[0x1f1] = 1; /* one setup sector after the boot sector */
    le16_put(setup + 0x1fe, 0xaa55);
    setup[0x200] = 0xeb;
    setup[0x201] = 0x6a;
    memcpy(setup + 0x202, "HdrS", 4);
    le16_put(setup + 0x206, 0x20f);
    le16_put(setup + 0x236, 1);
    le32_put(setup + 0x248, 32);
    le32_put(setup + 0x24c, (uint32_t)payload->len);
    assert_int_equal(buf_append(out, setup, sizeof setup), 0);
    assert_int_equal(buf_fill(out, 0x90, 32), 0);
    assert_int_equal(buf_append(out, payload->data, payload->len), 0);
    assert_int_equal(buf_fill(out, 0xcc, 100), 0);
}

static int load(const struct buf *file, struct mem **m, struct kernel_info *k, struct sm_error *err)
{
    int fd = memfd_create("kernel", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, file->data, file->len), (ssize_t)file->len);
    assert_int_equal(mem_new(RAM_BYTES, m, err), 0);
    int rc = kernel_load_fd(fd, "FILE", *m, k, err);
    close(fd);
    return rc;
}

static void check_loaded(const struct buf *file, const struct buf *elf)
{
    struct mem *m;
    struct kernel_info k;
    struct sm_error err = {0};
    int rc = load(file, &m, &k, &err);
    if (rc)
        fail_msg("%s", err.text);
    assert_int_equal(k.entry, TEXT_GPA + 16);
    assert_int_equal(k.end, TEXT_GPA + TEXT_LEN + BSS_LEN);
    assert_memory_equal(mem_ptr(m, TEXT_GPA, TEXT_LEN), elf->data + 4096, TEXT_LEN);
    assert_memory_equal(mem_ptr(m, 0x200000, 1000), elf->data, 1000);
    const uint8_t *bss = mem_ptr(m, TEXT_GPA + TEXT_LEN, BSS_LEN);
    for (unsigned i = 0; i < BSS_LEN; i++)
        assert_int_equal(bss[i], 0);
    mem_free(m);
}

static void test_elf(void **state)
{
    struct buf elf = {0};
    make_elf(&elf);
    check_loaded(&elf, &elf);
    buf_fini(&elf);
}

static la_ssize_t on_write(struct archive *a, void *opaque, const void *data, size_t len)
{
    return buf_append(opaque, data, len) == 0 ? (la_ssize_t)len : -1;
}

static void compress_archive(const struct buf *in, struct buf *out, int (*filter)(struct archive *))
{
    struct archive *a = archive_write_new();
    struct archive_entry *e = archive_entry_new();
    assert_int_equal(archive_write_set_format_raw(a), ARCHIVE_OK);
    assert_int_equal(filter(a), ARCHIVE_OK);
    archive_write_set_bytes_per_block(a, 1);
    archive_write_set_bytes_in_last_block(a, 1);
    assert_int_equal(archive_write_open(a, out, NULL, on_write, NULL), ARCHIVE_OK);
    archive_entry_set_filetype(e, AE_IFREG);
    archive_entry_set_pathname(e, "x");
    assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
    assert_int_equal(archive_write_data(a, in->data, in->len), (la_ssize_t)in->len);
    assert_int_equal(archive_write_close(a), ARCHIVE_OK);
    archive_write_free(a);
    archive_entry_free(e);
}

/* As the kernel's build does: xz with the x86 branch filter and a CRC32. */
static void compress_xz_bcj(const struct buf *in, struct buf *out)
{
    lzma_options_lzma options;
    lzma_lzma_preset(&options, 6);
    lzma_filter filters[] = {
        {LZMA_FILTER_X86, NULL}, {LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, NULL}};
    size_t len = 0, room = lzma_stream_buffer_bound(in->len);
    assert_int_equal(buf_reserve(out, room), 0);
    assert_int_equal(lzma_stream_buffer_encode(filters, LZMA_CHECK_CRC32, NULL, in->data, in->len,
                                               out->data, &len, room),
                     LZMA_OK);
    out->len = len;
}

/* The legacy frame of `lz4 -l`: magic, then blocks of a size and one run of literals each. */
static void compress_lz4_legacy(const struct buf *in, struct buf *out)
{
    struct buf block = {0};
    uint8_t raw[4];
    uint8_t token = 0xf0;
    size_t rest = in->len - 15;
    assert_int_equal(buf_append(&block, &token, 1), 0);
    assert_int_equal(buf_fill(&block, 0xff, rest / 255), 0);
    assert_int_equal(buf_fill(&block, (uint8_t)(rest % 255), 1), 0);
    assert_int_equal(buf_append(&block, in->data, in->len), 0);
    le32_put(raw, 0x184c2102);
    assert_int_equal(buf_append(out, raw, 4), 0);
    le32_put(raw, (uint32_t)block.len);
    assert_int_equal(buf_append(out, raw, 4), 0);
    assert_int_equal(buf_append(out, block.data, block.len), 0);
    buf_fini(&block);
}

static void compress_none(const struct buf *in, struct buf *out)
{
    assert_int_equal(buf_append(out, in->data, in->len), 0);
}
static void compress_gzip(const struct buf *in, struct buf *out)
{
    compress_archive(in, out, archive_write_add_filter_gzip);
}
static void compress_bzip2(const struct buf *in, struct buf *out)
{
    compress_archive(in, out, archive_write_add_filter_bzip2);
}
static void compress_lzma(const struct buf *in, struct buf *out)
{
    compress_archive(in, out, archive_write_add_filter_lzma);
}
static void compress_zstd(const struct buf *in, struct buf *out)
{
    compress_archive(in, out, archive_write_add_filter_zstd);
}

static const struct {
    const char *name;
    void (*compress)(const struct buf *in, struct buf *out);
    bool size_appended;
} kinds[] = {
    {"none", compress_none, true},   {"gzip", compress_gzip, false},
    {"bzip2", compress_bzip2, true}, {"lzma", compress_lzma, true},
    {"xz", compress_xz_bcj, true},   {"lz4", compress_lz4_legacy, true},
    {"zstd", compress_zstd, true},
};

static void test_bzimage_compressions(void **state)
{
    struct buf elf = {0};
    make_elf(&elf);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct buf payload = {0}, file = {0};
        uint8_t size[4];
        print_message("payload: %s\n", kinds[i].name);
        kinds[i].compress(&elf, &payload);
        le32_put(size, (uint32_t)elf.len);
        if (kinds[i].size_appended)
            assert_int_equal(buf_append(&payload, size, 4), 0);
        make_bzimage(&payload, &file);
        check_loaded(&file, &elf);
        buf_fini(&payload);
        buf_fini(&file);
    }
    buf_fini(&elf);
}

static void expect_refused(const struct buf *file, const char *text)
{
    struct mem *m;
    struct kernel_info k;
    struct sm_error err = {0};
    int rc = load(file, &m, &k, &err);
    if (rc >= 0 || rc != err.code || !strstr(err.text, text) || !strstr(err.text, "kernel FILE: "))
        fail_msg("rc %d, '%s', wanted '%s'", rc, err.text, text);
    mem_free(m);
}

/* One change to a good file, and what the error must say. */
static const struct patch {
    size_t at;
    uint64_t value;
    unsigned size;
    const char *text;
} elf_patches[] = {
    {EI_CLASS, 1, 1, "not a 64-bit x86 kernel"},
    {EI_DATA, 2, 1, "not a 64-bit x86 kernel"},
    {offsetof(Elf64_Ehdr, e_machine), EM_AARCH64, 2, "not a 64-bit x86 kernel"},
    {offsetof(Elf64_Ehdr, e_type), ET_REL, 2, "not an executable"},
    {offsetof(Elf64_Ehdr, e_phnum), 0, 2, "broken ELF program headers"},
    {offsetof(Elf64_Ehdr, e_phnum), 65535, 2, "broken ELF program headers"},
    {offsetof(Elf64_Ehdr, e_phentsize), 55, 2, "broken ELF program headers"},
    {offsetof(Elf64_Ehdr, e_phoff), 1ull << 63, 8, "broken ELF program headers"},
    {offsetof(Elf64_Ehdr, e_phoff), 0, 8, "broken ELF program headers"},
    {offsetof(Elf64_Ehdr, e_entry), 0, 8, "entry point"},
    {offsetof(Elf64_Ehdr, e_entry), TEXT_GPA + TEXT_LEN, 8, "entry point"},
#define PH(field) (sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, field))
    {PH(p_type), PT_NOTE, 4, "entry point"},
    {PH(p_filesz), TEXT_LEN + BSS_LEN + 1, 8, "larger in the file"},
    {PH(p_filesz), TEXT_LEN + BSS_LEN, 8, "cut short"},
    {PH(p_memsz), ~0ull, 8, "does not fit"},
    {PH(p_memsz), RAM_BYTES, 8, "does not fit"},
    {PH(p_memsz), RAM_BYTES - TEXT_GPA + 1, 8, "does not fit"},
    {PH(p_paddr), ~0ull, 8, "does not fit"},
    {PH(p_paddr), 0, 8, "does not fit"},
    {PH(p_paddr), KERNEL_MIN_GPA - 1, 8, "does not fit"},
    {PH(p_paddr), 0xfee00000, 8, "does not fit"},
    {PH(p_paddr), RAM_BYTES, 8, "does not fit"},
    {PH(p_paddr), 0x200000 + 999, 8, "overlap in memory"},
    {PH(p_offset), 999, 8, "overlap in the file"},
    {PH(p_offset), ~0ull, 8, "too far"},
    {PH(p_offset), KERNEL_MAX_UNPACKED, 8, "cut short"},
};

static void test_broken_elf(void **state)
{
    for (size_t i = 0; i < sizeof elf_patches / sizeof elf_patches[0]; i++) {
        const struct patch *p = &elf_patches[i];
        struct buf elf = {0};
        make_elf(&elf);
        memcpy(elf.data + p->at, &p->value, p->size);
        expect_refused(&elf, p->text);
        buf_fini(&elf);
    }
}

static const struct patch bzimage_patches[] = {
    {0x1fe, 0, 2, "neither a bzImage nor an ELF"},
    {0x202, 0, 4, "neither a bzImage nor an ELF"},
    {0x206, 0x207, 2, "older than 2.08"},
    {0x236, 0, 2, "no 64-bit entry"},
    {0x1f1, 200, 1, "outside of the file"},
    {0x248, 0xffffffff, 4, "outside of the file"},
    {0x24c, 0xffffffff, 4, "outside of the file"},
    {0x24c, 0, 4, "outside of the file"},
    {0x24c, 3, 4, "broken"},
    {0x24c, 500, 4, "broken"},
    {1024 + 32, 0, 4, "unknown compression"},
    {1024 + 32 + 100, 0x5555555555555555, 8, "broken"},
};

static void test_broken_bzimage(void **state)
{
    struct buf elf = {0}, payload = {0};
    make_elf(&elf);
    compress_gzip(&elf, &payload);
    for (size_t i = 0; i < sizeof bzimage_patches / sizeof bzimage_patches[0]; i++) {
        const struct patch *p = &bzimage_patches[i];
        struct buf file = {0};
        make_bzimage(&payload, &file);
        memcpy(file.data + p->at, &p->value, p->size);
        print_message("at %#zx: %s\n", p->at, p->text);
        if (strcmp(p->text, "broken") != 0) {
            expect_refused(&file, p->text);
        } else {
            struct mem *m;
            struct kernel_info k;
            struct sm_error err = {0};
            int rc = load(&file, &m, &k, &err);
            assert_int_equal(rc, SM_ECORRUPT);
            assert_non_null(strstr(err.text, "kernel FILE: "));
            mem_free(m);
        }
        buf_fini(&file);
    }
    buf_fini(&payload);
    buf_fini(&elf);
}

static void test_bomb(void **state)
{
    struct buf zeros = {0}, payload = {0}, file = {0};
    struct kernel_info k;
    struct mem *m;
    struct sm_error err = {0};
    make_elf(&zeros);
    /* The text segment now begins beyond what may be unpacked, after a long run of zeros. */
    uint64_t far = KERNEL_MAX_UNPACKED - 1000;
    memcpy(zeros.data + PH(p_offset), &far, 8);
    assert_int_equal(buf_fill(&zeros, 0, (size_t)KERNEL_MAX_UNPACKED), 0);
    compress_gzip(&zeros, &payload);
    buf_fini(&zeros);
    make_bzimage(&payload, &file);
    assert_int_equal(load(&file, &m, &k, &err), SM_ECORRUPT);
    assert_non_null(strstr(err.text, "more than 256 MiB"));
    mem_free(m);
    buf_fini(&payload);
    buf_fini(&file);
}

static void test_not_a_kernel(void **state)
{
    struct mem *m;
    struct kernel_info k;
    struct sm_error err = {0};
    struct buf text = {0};
    expect_refused(&text, "neither a bzImage nor an ELF");
    assert_int_equal(buf_printf(&text, "#!/bin/sh\n"), 0);
    expect_refused(&text, "neither a bzImage nor an ELF");
    buf_fini(&text);

    assert_int_equal(mem_new(RAM_BYTES, &m, &err), 0);
    assert_int_equal(kernel_load("/nonexistent/k", m, &k, &err), SM_ENOTFOUND);
    assert_non_null(strstr(err.text, "/nonexistent/k"));
    assert_int_equal(kernel_load("/", m, &k, &err), SM_EINVAL);
    assert_non_null(strstr(err.text, "not a regular file"));
    mem_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elf),        cmocka_unit_test(test_bzimage_compressions),
        cmocka_unit_test(test_broken_elf), cmocka_unit_test(test_broken_bzimage),
        cmocka_unit_test(test_bomb),       cmocka_unit_test(test_not_a_kernel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
