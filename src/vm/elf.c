// SPDX-License-Identifier: Apache-2.0
/*
 * ELF64 x86-64 vmlinux -> guest RAM, by PT_LOAD physical addresses, from a forward-only stream.
 * The file's first bytes (ELF header to the end of the program headers) are kept, because a segment
 * may begin inside of them; the rest goes from the stream into guest RAM directly.
 */
#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "vm/kernel.h"

#define ELF_HEAD_MAX 65536
#define ELF_MAX_SEGMENTS 64

struct elf_file {
    struct kernel_stream *s;
    uint64_t pos; /* of the stream in the file */
    uint8_t *head;
    size_t head_len;
    Elf64_Phdr segments[ELF_MAX_SEGMENTS]; /* PT_LOAD with memory, by file offset */
    unsigned n;
};

/* Exactly len bytes, or an error. */
static int stream_exact(struct elf_file *f, void *data, uint64_t len, struct sm_error *err)
{
    uint8_t *p = data;
    while (len > 0) {
        int64_t n = f->s->read(f->s, p, len, err);
        if (n < 0)
            return err ? err->code : SM_EIO;
        if (n == 0)
            return err_set(err, SM_ECORRUPT, "the ELF file is cut short");
        p += n;
        len -= (uint64_t)n;
        f->pos += (uint64_t)n;
    }
    return 0;
}

static int stream_skip_to(struct elf_file *f, uint64_t offset, struct sm_error *err)
{
    uint8_t scrap[16384];
    while (f->pos < offset) {
        uint64_t n = offset - f->pos;
        int rc = stream_exact(f, scrap, n < sizeof scrap ? n : sizeof scrap, err);
        if (rc)
            return rc;
    }
    return 0;
}

static int check_header(const Elf64_Ehdr *e, struct sm_error *err)
{
    if (memcmp(e->e_ident, ELFMAG, SELFMAG) != 0)
        return err_set(err, SM_ECORRUPT, "not an ELF file");
    if (e->e_ident[EI_CLASS] != ELFCLASS64 || e->e_ident[EI_DATA] != ELFDATA2LSB ||
        e->e_machine != EM_X86_64)
        return err_set(err, SM_ECORRUPT, "not a 64-bit x86 kernel");
    if (e->e_type != ET_EXEC)
        return err_set(err, SM_ECORRUPT, "not an executable ELF file (vmlinux)");
    if (e->e_phentsize != sizeof(Elf64_Phdr) || e->e_phnum == 0 || e->e_phnum > ELF_MAX_SEGMENTS ||
        e->e_phoff < sizeof *e || e->e_phoff > ELF_HEAD_MAX - ELF_MAX_SEGMENTS * sizeof(Elf64_Phdr))
        return err_set(err, SM_ECORRUPT, "broken ELF program headers");
    return 0;
}

static int by_offset(const void *a, const void *b)
{
    const Elf64_Phdr *x = a, *y = b;
    return x->p_offset < y->p_offset ? -1 : x->p_offset > y->p_offset;
}

/* Ranges of guest memory that are all RAM, above the boot data, and do not meet each other. */
static int check_segments(const struct elf_file *f, const struct mem *m, struct sm_error *err)
{
    for (unsigned i = 0; i < f->n; i++) {
        const Elf64_Phdr *p = &f->segments[i];
        if (p->p_filesz > p->p_memsz)
            return err_set(err, SM_ECORRUPT, "ELF segment %u is larger in the file than in memory",
                           i);
        if (p->p_offset > KERNEL_MAX_UNPACKED || p->p_filesz > KERNEL_MAX_UNPACKED)
            return err_set(err, SM_ECORRUPT, "ELF segment %u lies too far in the file", i);
        const struct mem_region *r = mem_find(m, p->p_paddr);
        if (p->p_paddr < KERNEL_MIN_GPA || !r || !r->ram || !mem_ptr(m, p->p_paddr, p->p_memsz))
            return err_set(
                err, SM_EINVAL,
                "the kernel does not fit into the VM's memory (ELF segment at 0x%llx, %llu KiB)",
                (unsigned long long)p->p_paddr, (unsigned long long)p->p_memsz >> 10);
        for (unsigned j = 0; j < i; j++) {
            const Elf64_Phdr *q = &f->segments[j];
            if (p->p_paddr < q->p_paddr + q->p_memsz && q->p_paddr < p->p_paddr + p->p_memsz)
                return err_set(err, SM_ECORRUPT, "ELF segments overlap in memory");
        }
        if (i > 0 && p->p_offset < f->segments[i - 1].p_offset + f->segments[i - 1].p_filesz)
            return err_set(err, SM_ECORRUPT, "ELF segments overlap in the file");
    }
    return 0;
}

static int load_segment(struct elf_file *f, struct mem *m, const Elf64_Phdr *p,
                        struct sm_error *err)
{
    uint8_t *to = mem_ptr_write(m, p->p_paddr, p->p_memsz);
    uint64_t done = 0;
    if (p->p_offset < f->head_len) {
        done = f->head_len - p->p_offset;
        if (done > p->p_filesz)
            done = p->p_filesz;
        memcpy(to, f->head + p->p_offset, done);
    }
    if (done < p->p_filesz) {
        int rc = stream_skip_to(f, p->p_offset + done, err);
        if (!rc)
            rc = stream_exact(f, to + done, p->p_filesz - done, err);
        if (rc)
            return rc;
    }
    /* The bss needs no zeroing: the RAM is fresh, and segments do not overlap. */
    mem_wrote(m, p->p_paddr, p->p_memsz);
    return 0;
}

static int read_head(struct elf_file *f, Elf64_Ehdr *e, struct sm_error *err)
{
    int rc = stream_exact(f, e, sizeof *e, err);
    if (!rc)
        rc = check_header(e, err);
    if (rc)
        return rc;
    f->head_len = e->e_phoff + e->e_phnum * sizeof(Elf64_Phdr);
    f->head = malloc(f->head_len);
    if (!f->head)
        return err_set(err, SM_ENOMEM, "out of memory");
    memcpy(f->head, e, sizeof *e);
    rc = stream_exact(f, f->head + sizeof *e, f->head_len - sizeof *e, err);
    if (rc)
        return rc;
    for (unsigned i = 0; i < e->e_phnum; i++) {
        Elf64_Phdr p;
        memcpy(&p, f->head + e->e_phoff + i * sizeof p, sizeof p);
        if (p.p_type == PT_LOAD && p.p_memsz > 0)
            f->segments[f->n++] = p;
    }
    if (f->n == 0)
        return err_set(err, SM_ECORRUPT, "the ELF file has nothing to load");
    qsort(f->segments, f->n, sizeof f->segments[0], by_offset);
    return 0;
}

int elf_load(struct kernel_stream *s, struct mem *m, struct kernel_info *out, struct sm_error *err)
{
    struct elf_file f = {.s = s};
    Elf64_Ehdr e;
    int rc = read_head(&f, &e, err);
    if (!rc)
        rc = check_segments(&f, m, err);
    bool entry_ok = false;
    uint64_t end = 0;
    for (unsigned i = 0; !rc && i < f.n; i++) {
        const Elf64_Phdr *p = &f.segments[i];
        rc = load_segment(&f, m, p, err);
        if (e.e_entry >= p->p_paddr && e.e_entry - p->p_paddr < p->p_filesz)
            entry_ok = true;
        if (p->p_paddr + p->p_memsz > end)
            end = p->p_paddr + p->p_memsz;
    }
    if (!rc && !entry_ok)
        rc = err_set(err, SM_ECORRUPT, "the ELF entry point 0x%llx is in no loaded segment",
                     (unsigned long long)e.e_entry);
    out->entry = e.e_entry;
    out->end = end;
    free(f.head);
    return rc;
}
