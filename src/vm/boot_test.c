// SPDX-License-Identifier: Apache-2.0
/* What the kernel is handed: memory map, boot_params, page tables, registers; and the ACPI tables.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/le.h"
#include "vm/acpi.h"
#include "vm/boot.h"
#include "vm/layout.h"

#define MIB (1ull << 20)

static struct mem *ram(uint64_t bytes)
{
    struct mem *m;
    struct sm_error err = {0};
    if (mem_new(bytes, &m, &err) != 0)
        fail_msg("%s", err.text);
    return m;
}

static void test_e820(void **state)
{
    static const struct {
        uint64_t ram_mib;
        unsigned n;
        struct boot_e820 rows[4];
    } cases[] = {
        {256, 3, {{0, 0x9fc00, 1}, {0x9fc00, 0x60400, 2}, {MIB, 255 * MIB, 1}}},
        {3072, 3, {{0, 0x9fc00, 1}, {0x9fc00, 0x60400, 2}, {MIB, 3071 * MIB, 1}}},
        {3074,
         4,
         {{0, 0x9fc00, 1}, {0x9fc00, 0x60400, 2}, {MIB, 3071 * MIB, 1}, {4096 * MIB, 2 * MIB, 1}}},
        {8192,
         4,
         {{0, 0x9fc00, 1},
          {0x9fc00, 0x60400, 2},
          {MIB, 3071 * MIB, 1},
          {4096 * MIB, 5120 * MIB, 1}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct boot_e820 rows[BOOT_E820_MAX];
        struct mem *m = ram(cases[i].ram_mib * MIB);
        static uint8_t window[4096] __attribute__((aligned(4096)));
        assert_int_equal(mem_add_window(m, 1ull << 40, sizeof window, window, true, NULL), 0);
        assert_int_equal(boot_e820_table(m, rows), cases[i].n);
        assert_memory_equal(rows, cases[i].rows, cases[i].n * sizeof rows[0]);
        mem_free(m);
    }
}

/* Walk the page tables as the CPU does. */
static uint64_t translate(struct mem *m, uint64_t cr3, uint64_t va)
{
    uint64_t entry = cr3;
    for (int shift = 39; shift >= 21; shift -= 9) {
        const uint64_t *table = mem_ptr(m, entry & ~0xfffull, 4096);
        assert_non_null(table);
        entry = table[va >> shift & 511];
        assert_int_equal(entry & 3, 3);
    }
    assert_true(entry & 0x80);
    return (entry & ~0x1fffffull) + (va & 0x1fffff);
}

static void test_boot_setup(void **state)
{
    char path[] = "/tmp/sm-boot-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "initramfs!", 10), 10);
    struct mem *m = ram(64 * MIB);
    struct kernel_info k = {.entry = 0x1000000, .end = 0x2000000, .setup_len = 0x7b};
    memcpy(k.setup_header + 0x202 - KERNEL_SETUP_OFFSET, "HdrS", 4);
    struct boot_config config = {
        .kernel = &k, .initramfs = path, .cmdline = "console=ttyS0 x=y", .rsdp = 0xe0000};
    struct cpu_state s = {0};
    struct sm_error err = {0};
    if (boot_setup(m, &config, &s, &err) != 0)
        fail_msg("%s", err.text);

    assert_int_equal(s.rip, 0x1000000);
    assert_int_equal(s.rflags, 2);
    assert_int_equal(s.cr0 & 0x80000001, 0x80000001);
    assert_int_equal(s.efer & 0x500, 0x500);
    assert_true(s.cr4 & 0x20);
    assert_int_equal(s.seg[SEG_CS].selector, 0x10);
    assert_int_equal(s.seg[SEG_SS].selector, 0x18);
    /* The hidden parts of CS and SS match the descriptors in memory. */
    const uint64_t *gdt = mem_ptr(m, s.gdt_base, s.gdt_limit + 1);
    assert_non_null(gdt);
    assert_int_equal(gdt[2] >> 40 & 0xf0ff, s.seg[SEG_CS].attr);
    assert_int_equal(gdt[3] >> 40 & 0xf0ff, s.seg[SEG_SS].attr);
    assert_int_equal(gdt[4] >> 40 & 0xf0ff, s.seg[SEG_TR].attr);
    static const uint64_t addrs[] = {0, 0x7123, 0x1000000, 0x3fffffff, 0x40000000, 0xffffffff};
    for (size_t i = 0; i < sizeof addrs / sizeof addrs[0]; i++)
        assert_int_equal(translate(m, s.cr3, addrs[i]), addrs[i]);

    const uint8_t *bp = mem_ptr(m, s.gpr[6], 4096);
    assert_non_null(bp);
    assert_memory_equal(bp + 0x202, "HdrS", 4);
    assert_int_equal(bp[0x1ef], 0); /* sentinel */
    assert_int_equal(bp[0x210], 0xff);
    assert_int_equal(bp[0x211] & 1, 1);
    assert_int_equal(le64_get(bp + 0x070), 0xe0000);
    assert_int_equal(bp[0x1e8], 3);
    assert_int_equal(le32_get(bp + 0x21c), 10);
    uint32_t initrd = le32_get(bp + 0x218);
    assert_int_equal(initrd % 4096, 0);
    assert_in_range(initrd, k.end, 64 * MIB - 10);
    assert_memory_equal(mem_ptr(m, initrd, 10), "initramfs!", 10);
    assert_string_equal(mem_ptr(m, le32_get(bp + 0x228), 64), "console=ttyS0 x=y");
    mem_free(m);
    close(fd);
    unlink(path);
}

static void test_boot_refused(void **state)
{
    char path[] = "/tmp/sm-boot-test-XXXXXX";
    int fd = mkstemp(path);
    struct mem *m = ram(64 * MIB);
    struct kernel_info k = {.entry = 0x1000000, .end = 0x2000000};
    struct boot_config config = {.kernel = &k, .initramfs = path, .cmdline = "x"};
    struct cpu_state s = {0};
    struct sm_error err = {0};

    assert_int_equal(boot_setup(m, &config, &s, &err), SM_EINVAL);
    assert_non_null(strstr(err.text, "empty"));
    assert_int_equal(ftruncate(fd, 32 * MIB + 1), 0);
    assert_int_equal(boot_setup(m, &config, &s, &err), SM_EINVAL);
    assert_non_null(strstr(err.text, "do not fit into the VM's memory of 64 MiB"));
    assert_int_equal(ftruncate(fd, 32 * MIB), 0);
    assert_int_equal(boot_setup(m, &config, &s, &err), 0);
    k.end = 1ull << 40;
    assert_int_equal(boot_setup(m, &config, &s, &err), SM_EINVAL);
    k.end = 0x2000000;

    config.initramfs = "/nonexistent/i";
    assert_int_equal(boot_setup(m, &config, &s, &err), SM_ENOTFOUND);
    assert_non_null(strstr(err.text, "/nonexistent/i"));
    config.initramfs = NULL;
    char longest[LAYOUT_CMDLINE_MAX + 2];
    memset(longest, 'a', sizeof longest);
    longest[LAYOUT_CMDLINE_MAX + 1] = 0;
    config.cmdline = longest;
    assert_int_equal(boot_setup(m, &config, &s, &err), SM_EINVAL);
    assert_non_null(strstr(err.text, "at most 2047"));
    longest[LAYOUT_CMDLINE_MAX] = 0;
    assert_int_equal(boot_setup(m, &config, &s, &err), 0);
    mem_free(m);
    close(fd);
    unlink(path);
}

static const uint8_t *table_at(struct mem *m, gpa_t at, const char *signature)
{
    const uint8_t *h = mem_ptr(m, at, 36);
    assert_non_null(h);
    assert_memory_equal(h, signature, 4);
    uint32_t len = le32_get(h + 4);
    assert_non_null(mem_ptr(m, at, len));
    uint8_t sum = 0;
    for (uint32_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + h[i]);
    assert_int_equal(sum, 0);
    return h;
}

static void write_file(const char *path, const uint8_t *table)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(table, le32_get(table + 4), 1, f), 1);
    assert_int_equal(fclose(f), 0);
}

/* 0 or an exit status; 127 if there is no iasl. */
static int iasl(const char *dir, const char *file)
{
    char command[256];
    snprintf(command, sizeof command, "cd %s && iasl %s >out.txt 2>&1", dir, file);
    int rc = system(command);
    return WIFEXITED(rc) ? WEXITSTATUS(rc) : 1;
}

static void check_iasl(const uint8_t *dsdt, const uint8_t *fadt, const uint8_t *madt)
{
    static const char *const wanted[] = {
        "Device (VR00)",
        "Device (VR3F)",
        "\"LNRO0005\"",
        "0xD0000000,",
        "0xD003F000,",
        "Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive,",
        "Interrupt (ResourceConsumer, Level, ActiveHigh, Shared,",
        "Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive,",
        "EisaId (\"PNP0501\")",
        "Name (\\_S5, Package (0x04)",
        "0x03F8,",
    };
    char dir[] = "/tmp/sm-acpi-XXXXXX", path[64], command[64];
    if (system("command -v iasl >/dev/null 2>&1") != 0) {
        print_message("SKIP: iasl check: no iasl (acpica-tools)\n");
        return;
    }
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/dsdt.aml", dir);
    write_file(path, dsdt);
    snprintf(path, sizeof path, "%s/facp.aml", dir);
    write_file(path, fadt);
    snprintf(path, sizeof path, "%s/apic.aml", dir);
    write_file(path, madt);
    assert_int_equal(iasl(dir, "-d dsdt.aml"), 0);
    assert_int_equal(iasl(dir, "-d facp.aml"), 0);
    assert_int_equal(iasl(dir, "-d apic.aml"), 0);

    static char text[1 << 20];
    snprintf(path, sizeof path, "%s/dsdt.dsl", dir);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        if (!strstr(text, wanted[i]))
            fail_msg("the disassembled DSDT lacks: %s", wanted[i]);
    }
    /* What iasl made of it compiles again without an error. */
    assert_int_equal(iasl(dir, "-p again dsdt.dsl"), 0);
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

static void test_acpi(void **state)
{
    struct mem *m = ram(64 * MIB);
    struct acpi_device devices[66];
    for (unsigned i = 0; i < 66; i++)
        devices[i] = (struct acpi_device){
            .addr = 0xd0000000 + i * 0x1000, .len = 0x1000, .gsi = 5 + i % 19, .shared = i > 1};
    struct acpi_config config = {.n_vcpus = 8, .devices = devices, .n_devices = 66};
    gpa_t at;
    struct sm_error err = {0};
    if (acpi_write(m, &config, &at, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(at, LAYOUT_ACPI);
    const uint8_t *rsdp = mem_ptr(m, at, 36);
    assert_memory_equal(rsdp, "RSD PTR ", 8);
    uint8_t first = 0, all = 0;
    for (int i = 0; i < 36; i++) {
        first = (uint8_t)(first + (i < 20 ? rsdp[i] : 0));
        all = (uint8_t)(all + rsdp[i]);
    }
    assert_int_equal(first, 0);
    assert_int_equal(all, 0);
    const uint8_t *xsdt = table_at(m, le64_get(rsdp + 24), "XSDT");
    const uint8_t *fadt = table_at(m, le64_get(xsdt + 36), "FACP");
    const uint8_t *madt = table_at(m, le64_get(xsdt + 44), "APIC");
    const uint8_t *dsdt = table_at(m, le64_get(fadt + 140), "DSDT");
    assert_int_equal(le32_get(xsdt + 4), 36 + 16);
    assert_int_equal(le32_get(fadt + 112) >> 20 & 1, 1);
    assert_int_equal(le32_get(madt + 4), 44 + 8 * 8 + 12);
    check_iasl(dsdt, fadt, madt);
    mem_free(m);
}

static void test_acpi_too_large(void **state)
{
    struct mem *m = ram(64 * MIB);
    static struct acpi_device devices[4000];
    struct acpi_config config = {.n_vcpus = 1, .devices = devices, .n_devices = 4000};
    gpa_t at;
    struct sm_error err = {0};
    assert_int_equal(acpi_write(m, &config, &at, &err), SM_EINVAL);
    mem_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_e820),           cmocka_unit_test(test_boot_setup),
        cmocka_unit_test(test_boot_refused),   cmocka_unit_test(test_acpi),
        cmocka_unit_test(test_acpi_too_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
