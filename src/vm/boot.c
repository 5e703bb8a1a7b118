// SPDX-License-Identifier: Apache-2.0
#include "vm/boot.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/le.h"
#include "vm/layout.h"

/* boot_params (Linux arch/x86/include/uapi/asm/bootparam.h; zero-page.rst). */
#define BP_LEN 4096
#define BP_ACPI_RSDP 0x070
#define BP_EXT_RAMDISK_IMAGE 0x0c0
#define BP_EXT_RAMDISK_SIZE 0x0c4
#define BP_E820_ENTRIES 0x1e8
#define BP_VID_MODE 0x1fa
#define BP_TYPE_OF_LOADER 0x210
#define BP_LOADFLAGS 0x211
#define BP_RAMDISK_IMAGE 0x218
#define BP_RAMDISK_SIZE 0x21c
#define BP_CMD_LINE_PTR 0x228
#define BP_E820_TABLE 0x2d0
#define LOADED_HIGH 0x01

#define PTE_PRESENT_RW 0x3ull
#define PTE_LARGE 0x80ull
#define PAGE_DIRECTORIES 4 /* of 1 GiB each */

#define GDT_CODE 0x10 /* __BOOT_CS */
#define GDT_DATA 0x18 /* __BOOT_DS */
#define GDT_TSS 0x20

#define CR0_BOOT 0x80050033ull /* PG AM WP NE ET MP PE */
#define CR4_PAE 0x20ull
#define EFER_LME_LMA 0x500ull

struct initramfs {
    gpa_t gpa;
    uint64_t len;
};

unsigned boot_e820_table(const struct mem *m, struct boot_e820 rows[BOOT_E820_MAX])
{
    unsigned n = 0;
    rows[n++] = (struct boot_e820){0, LAYOUT_LOW_RAM_END, BOOT_E820_RAM};
    rows[n++] = (struct boot_e820){LAYOUT_LOW_RAM_END, KERNEL_MIN_GPA - LAYOUT_LOW_RAM_END,
                                   BOOT_E820_RESERVED};
    for (unsigned i = 0; i < m->n_regions && n < BOOT_E820_MAX; i++) {
        const struct mem_region *r = &m->regions[i];
        uint64_t skip = r->gpa < KERNEL_MIN_GPA ? KERNEL_MIN_GPA - r->gpa : 0;
        if (r->ram && r->len > skip)
            rows[n++] = (struct boot_e820){r->gpa + skip, r->len - skip, BOOT_E820_RAM};
    }
    return n;
}

/* As high as possible below 3 GiB, away from where the kernel unpacks and allocates early. */
static int load_initramfs(struct mem *m, const char *path, gpa_t lowest, struct initramfs *out,
                          struct sm_error *err)
{
    struct stat st;
    int rc = 0;
    *out = (struct initramfs){0};
    if (!path)
        return 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_sys(err, "initramfs %s: cannot open it", path);
    const struct mem_region *low = mem_find(m, 0);
    if (fstat(fd, &st) != 0) {
        rc = err_sys(err, "initramfs %s: cannot read it", path);
    } else if (!S_ISREG(st.st_mode) || st.st_size == 0) {
        rc = err_set(err, SM_EINVAL, "initramfs %s: empty, or not a regular file", path);
    } else if (!low || lowest > low->len || (uint64_t)st.st_size > low->len - lowest ||
               (low->len - (uint64_t)st.st_size) / MEM_PAGE_SIZE * MEM_PAGE_SIZE < lowest) {
        rc = err_set(err, SM_EINVAL,
                     "the kernel and initramfs %s do not fit into the VM's memory of %llu MiB",
                     path, (unsigned long long)m->ram_bytes >> 20);
    } else {
        out->len = (uint64_t)st.st_size;
        out->gpa = (low->len - out->len) / MEM_PAGE_SIZE * MEM_PAGE_SIZE;
        ssize_t got = io_read_full(fd, mem_ptr_write(m, out->gpa, out->len), out->len);
        mem_wrote(m, out->gpa, out->len);
        if (got < 0)
            rc = err_sys(err, "initramfs %s: cannot read it", path);
        else if ((uint64_t)got != out->len)
            rc = err_set(err, SM_EIO, "initramfs %s: it changed while being read", path);
    }
    close(fd);
    return rc;
}

static int write_boot_params(struct mem *m, const struct boot_config *config,
                             const struct initramfs *initramfs)
{
    uint8_t bp[BP_LEN] = {0};
    memcpy(bp + KERNEL_SETUP_OFFSET, config->kernel->setup_header, config->kernel->setup_len);
    bp[BP_TYPE_OF_LOADER] = 0xff; /* no assigned number */
    bp[BP_LOADFLAGS] |= LOADED_HIGH;
    le16_put(bp + BP_VID_MODE, 0xffff); /* normal */
    le32_put(bp + BP_CMD_LINE_PTR, (uint32_t)LAYOUT_CMDLINE);
    le32_put(bp + BP_RAMDISK_IMAGE, (uint32_t)initramfs->gpa);
    le32_put(bp + BP_EXT_RAMDISK_IMAGE, (uint32_t)(initramfs->gpa >> 32));
    le32_put(bp + BP_RAMDISK_SIZE, (uint32_t)initramfs->len);
    le32_put(bp + BP_EXT_RAMDISK_SIZE, (uint32_t)(initramfs->len >> 32));
    le64_put(bp + BP_ACPI_RSDP, config->rsdp);

    struct boot_e820 rows[BOOT_E820_MAX];
    unsigned n = boot_e820_table(m, rows);
    bp[BP_E820_ENTRIES] = (uint8_t)n;
    memcpy(bp + BP_E820_TABLE, rows, n * sizeof rows[0]);
    return mem_write(m, LAYOUT_BOOT_PARAMS, bp, sizeof bp);
}

/* Identity mapping of the first 4 GiB in 2 MiB pages. */
static int write_page_tables(struct mem *m)
{
    uint64_t table[512] = {0};
    gpa_t pdpt = LAYOUT_PAGE_TABLES + MEM_PAGE_SIZE, pd = pdpt + MEM_PAGE_SIZE;
    table[0] = pdpt | PTE_PRESENT_RW;
    int rc = mem_write(m, LAYOUT_PAGE_TABLES, table, sizeof table);
    for (unsigned i = 0; i < PAGE_DIRECTORIES; i++)
        table[i] = (pd + i * MEM_PAGE_SIZE) | PTE_PRESENT_RW;
    rc |= mem_write(m, pdpt, table, sizeof table);
    for (unsigned i = 0; i < PAGE_DIRECTORIES; i++) {
        for (uint64_t j = 0; j < 512; j++)
            table[j] = ((i * 512 + j) << 21) | PTE_LARGE | PTE_PRESENT_RW;
        rc |= mem_write(m, pd + i * MEM_PAGE_SIZE, table, sizeof table);
    }
    return rc;
}

static int write_gdt(struct mem *m)
{
    static const uint64_t gdt[6] = {
        [GDT_CODE / 8] = 0x00af9b000000ffff, /* 64-bit code, ring 0 */
        [GDT_DATA / 8] = 0x00cf93000000ffff, /* data */
        [GDT_TSS / 8] = 0x00008b0000000067,
        [GDT_TSS / 8 + 1] = 0, /* busy TSS at 0 */
    };
    return mem_write(m, LAYOUT_GDT, gdt, sizeof gdt);
}

static void fill_state(const struct kernel_info *kernel, struct cpu_state *s)
{
    const struct seg_state data = {.limit = 0xffffffff, .selector = GDT_DATA, .attr = 0xc093};
    memset(s->gpr, 0, sizeof s->gpr);
    s->rip = kernel->entry;
    s->rflags = 2;
    s->gdt_base = LAYOUT_GDT;
    s->gdt_limit = 6 * 8 - 1;
    s->idt_base = 0;
    s->idt_limit = 0;
    s->cr0 = CR0_BOOT;
    s->cr3 = LAYOUT_PAGE_TABLES;
    s->cr4 = CR4_PAE;
    s->efer = EFER_LME_LMA;
    s->pat = 0x0007040600070406;
    /* Enabled, boot processor, and already in x2APIC mode: the guest then never uses its MMIO page.
     */
    s->apic_base = LAYOUT_LAPIC | 0xd00;
    for (int i = SEG_ES; i <= SEG_GS; i++)
        s->seg[i] = data;
    s->seg[SEG_CS] = (struct seg_state){.limit = 0xffffffff, .selector = GDT_CODE, .attr = 0xa09b};
    s->seg[SEG_LDTR] = (struct seg_state){.limit = 0xffff, .attr = 0x0082};
    s->seg[SEG_TR] = (struct seg_state){.limit = 0x67, .selector = GDT_TSS, .attr = 0x008b};
    s->gpr[4] = LAYOUT_BOOT_STACK;  /* RSP */
    s->gpr[6] = LAYOUT_BOOT_PARAMS; /* RSI */
    le16_put(s->xsave, 0x37f);      /* FCW */
    le32_put(s->xsave + CPU_FX_MXCSR, 0x1f80);
    s->xsave[CPU_XSAVE_HEADER] |= 3; /* x87 and SSE are there */
}

int boot_setup(struct mem *m, const struct boot_config *config, struct cpu_state *state,
               struct sm_error *err)
{
    struct initramfs initramfs;
    size_t cmdline_len = strlen(config->cmdline);
    if (cmdline_len > LAYOUT_CMDLINE_MAX)
        return err_set(err, SM_EINVAL,
                       "the kernel command line has %zu bytes; at most %d are possible",
                       cmdline_len, LAYOUT_CMDLINE_MAX);
    int rc = load_initramfs(m, config->initramfs, config->kernel->end, &initramfs, err);
    if (rc)
        return rc;
    if (write_boot_params(m, config, &initramfs) != 0 || write_page_tables(m) != 0 ||
        write_gdt(m) != 0 || mem_write(m, LAYOUT_CMDLINE, config->cmdline, cmdline_len + 1) != 0)
        return err_set(err, SM_EINVAL, "the VM has too little memory to boot");
    fill_state(config->kernel, state);
    return 0;
}
