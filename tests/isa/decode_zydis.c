/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Differential test of the decoder against Zydis.
 *   decode_zydis MODEL random COUNT [SEED]   random bytes and random structured encodings
 *   decode_zydis MODEL text FILE...          linear sweep over the code sections of ELF files
 *   decode_zydis MODEL kernel BZIMAGE        the same over the kernel packed in it
 * MODEL is the CPU model, v2 or v3, with -32 or -16 after it for the modes that are not 64-bit
 * mode. Exit: 0 agree, 1 differ, 77 nothing to test.
 */
#include <elf.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/le.h"
#include "cpu/soft/insn.h"
#include "decode_oracle.h"
#include "vm/kernel.h"

static uint64_t rng(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s * UINT64_C(0x2545f4914f6cdd1d);
}

/* A likely instruction: some prefixes, an opcode from one of the maps, and random bytes after it.
 */
static void structured(uint64_t *s, uint8_t out[16])
{
    static const uint8_t prefixes[16] = {0x66, 0xf2, 0xf3, 0x66, 0xf2, 0xf3, 0xf0, 0x67,
                                         0x64, 0x65, 0x2e, 0x3e, 0x26, 0x36, 0x40, 0x48};
    uint64_t bits = rng(s);
    unsigned n = 0, count = bits & 7u;
    bits >>= 3;
    /* 0 to 3 prefixes, now and then up to 14 */
    count = count < 4 ? count : count < 7 ? 0 : (bits & 31u) == 0 ? 8 + (bits >> 5 & 7u) : 1;
    bits >>= 8;
    while (n < count && n < 14) {
        uint64_t b = rng(s);
        out[n++] = prefixes[b & 15u];
    }
    if ((bits & 1u) != 0) {
        out[n < 14 ? n++ : n] = 0x40u | (bits >> 1 & 15u);
    }
    bits >>= 5;
    unsigned map = bits & 7u;
    bits >>= 3;
    if ((bits & 3u) == 0 && n < 12) { /* VEX, mostly of a map that exists */
        bits >>= 2;
        out[n++] = (bits & 1u) != 0 ? 0xc5 : 0xc4;
        if ((bits & 1u) == 0) {
            out[n++] = (uint8_t)((bits >> 8 & 0xe0u) |
                                 ((bits >> 1 & 15u) == 0 ? bits >> 16 & 31u : map % 3 + 1));
        }
        /* vvvv 1111 now and then, as most forms without a third operand want it */
        out[n++] = (uint8_t)(rng(s) | ((bits >> 5 & 1u) != 0 ? 0x78u : 0));
        map = 0;
    }
    if (map >= 2 && n < 13) {
        out[n++] = 0x0f;
        if (map >= 6) {
            out[n++] = map == 6 ? 0x38 : 0x3a;
        }
    }
    uint64_t rest[2] = {rng(s), rng(s)};
    memcpy(out + n, rest, 16 - n);
}

static void run_random(struct oracle *o, uint64_t count, uint64_t seed)
{
    uint64_t s = seed * 2 + 1;
    uint8_t bytes[16];
    for (uint64_t i = 0; i < count; i++) {
        if ((i & 3u) == 0) {
            uint64_t w[2] = {rng(&s), rng(&s)};
            memcpy(bytes, w, 16);
        } else {
            structured(&s, bytes);
        }
        oracle_compare(o, bytes, (i & 63u) == 5 ? rng(&s) % 16 : 16);
    }
}

static void sweep(struct oracle *o, const uint8_t *code, size_t size)
{
    for (size_t at = 0; at < size;) {
        at += oracle_compare(o, code + at, size - at);
    }
}

/* A section that the sweep is about: where it is in the file, or size 0. */
struct part {
    uint64_t at, size;
};

static bool read_section(const uint8_t *image, size_t size, bool wide, uint64_t at,
                         struct part *out)
{
    Elf64_Shdr s64;
    Elf32_Shdr s32;
    size_t n = wide ? sizeof(s64) : sizeof(s32);
    if (at > size || size - at < n) {
        return false;
    }
    memcpy(&s64, image + at, wide ? n : 0);
    memcpy(&s32, image + at, wide ? 0 : n);
    uint64_t flags = wide ? s64.sh_flags : s32.sh_flags;
    bool code = (wide ? s64.sh_type : s32.sh_type) == SHT_PROGBITS && (flags & SHF_EXECINSTR) != 0;
    out->at = wide ? s64.sh_offset : s32.sh_offset;
    out->size = wide ? s64.sh_size : s32.sh_size;
    if (!code || out->at > size || out->size > size - out->at) {
        out->size = 0;
    }
    return true;
}

/* Sweep every executable section of an ELF image for the oracle's mode. False if it is not one. */
static bool sweep_elf(struct oracle *o, const uint8_t *image, size_t size)
{
    Elf64_Ehdr h64;
    Elf32_Ehdr h32;
    bool wide = o->mode == INSN_64;
    if (size < sizeof(h64)) {
        return false;
    }
    memcpy(&h64, image, sizeof(h64));
    memcpy(&h32, image, sizeof(h32));
    if (memcmp(h64.e_ident, ELFMAG, SELFMAG) != 0 ||
        h64.e_ident[EI_CLASS] != (wide ? ELFCLASS64 : ELFCLASS32) ||
        h64.e_machine != (wide ? EM_X86_64 : EM_386)) {
        return false;
    }
    uint64_t table = wide ? h64.e_shoff : h32.e_shoff;
    unsigned n = wide ? h64.e_shnum : h32.e_shnum;
    size_t each = wide ? sizeof(Elf64_Shdr) : sizeof(Elf32_Shdr);
    for (unsigned i = 0; i < n; i++) {
        struct part part;
        if (!read_section(image, size, wide, table + (uint64_t)i * each, &part)) {
            return false;
        }
        sweep(o, image + part.at, part.size);
    }
    return true;
}

static bool sweep_file(struct oracle *o, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0) {
        printf("SKIP %s: cannot open\n", path);
        return false;
    }
    bool ok = false;
    if (fstat(fd, &st) == 0 && st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p != MAP_FAILED) {
            uint64_t before = o->legal;
            ok = sweep_elf(o, p, (size_t)st.st_size);
            printf("%s %s: %llu instructions\n", ok ? "swept" : "SKIP (not ELF for this mode)",
                   path, (unsigned long long)(o->legal - before));
            munmap(p, (size_t)st.st_size);
        }
    }
    close(fd);
    return ok;
}

/* Unpack the payload of a bzImage (boot protocol: setup_sects, payload_offset, payload_length). */
static bool sweep_kernel(struct oracle *o, const char *path)
{
    enum { MAX_ELF = 256 << 20 };
    struct sm_error err = {0};
    struct file_stream file;
    struct payload *payload = NULL;
    uint8_t header[0x250];
    size_t size = 0;
    bool ok = false;
    uint8_t *elf = malloc(MAX_ELF);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (elf == NULL || fd < 0 || pread(fd, header, sizeof(header), 0) != sizeof(header)) {
        printf("SKIP %s: cannot read it\n", path);
        goto out;
    }
    unsigned setup_sects = header[0x1f1] != 0 ? header[0x1f1] : 4;
    file_stream_init(&file, fd, (setup_sects + 1) * 512u + le32_get(header + 0x248),
                     le32_get(header + 0x24c));
    if (payload_new(&file, &payload, &err) != 0) {
        printf("SKIP %s: %s\n", path, err.text);
        goto out;
    }
    struct kernel_stream *s = payload_stream(payload);
    int64_t n;
    while (size < MAX_ELF && (n = s->read(s, elf + size, MAX_ELF - size, &err)) > 0) {
        size += (size_t)n;
    }
    ok = sweep_elf(o, elf, size);
    printf("%s %s\n", ok ? "swept" : "SKIP (no ELF inside)", path);
out:
    payload_free(payload);
    free(elf);
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

/* v2 or v3, and -32 or -16 for the modes that are not 64-bit mode. */
static bool parse_model(const char *name, struct oracle *o)
{
    static const struct {
        const char *suffix;
        enum insn_mode mode;
    } modes[] = {{"", INSN_64}, {"-32", INSN_32}, {"-16", INSN_16}};
    if (strncmp(name, "v2", 2) != 0 && strncmp(name, "v3", 2) != 0) {
        return false;
    }
    for (unsigned i = 0; i < 3; i++) {
        if (strcmp(name + 2, modes[i].suffix) == 0) {
            oracle_init(o, name[1] == '3' ? INSN_MODEL_V3 : INSN_MODEL_V2, (int)modes[i].mode);
            return true;
        }
    }
    return false;
}

int main(int argc, char **argv)
{
    struct oracle o;
    bool any = false;
    if (argc < 2 || !parse_model(argv[1], &o)) {
        fprintf(stderr, "usage: decode_zydis v2|v3[-32|-16] random|text|kernel ...\n");
        return 2;
    }
    argc--;
    argv++;
    if (argc >= 3 && strcmp(argv[1], "random") == 0) {
        uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 0) : 1;
        uint64_t count = strtoull(argv[2], NULL, 0);
        printf("random: %llu sequences, seed %llu\n", (unsigned long long)count,
               (unsigned long long)seed);
        run_random(&o, count, seed);
        any = true;
    } else if (argc >= 3 && strcmp(argv[1], "text") == 0) {
        for (int i = 2; i < argc; i++) {
            any |= sweep_file(&o, argv[i]);
        }
    } else if (argc == 3 && strcmp(argv[1], "kernel") == 0) {
        any = sweep_kernel(&o, argv[2]);
    } else {
        fprintf(stderr,
                "usage: decode_zydis v2|v3[-32|-16] random COUNT [SEED] | text FILE... | kernel "
                "BZIMAGE\n");
        return 2;
    }
    if (!any || o.legal == 0) {
        printf("SKIP: nothing could be decoded\n");
        return 77;
    }
    oracle_report(&o, stdout);
    return o.unexplained == 0 ? 0 : 1;
}
