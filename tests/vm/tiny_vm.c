// SPDX-License-Identifier: Apache-2.0
#include "tiny_vm.h"

#include <elf.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/le.h"
#include "cpu/model.h"
#include "vm/layout.h"
#include "vm/vm.h"

/* The guest's only segment: its code, two lists of register writes, a queue per page, buffers. */
#define ENTRY 0x1000000ull /* TINY_COUNTER is in its last page */
#define SETUP 0x1000u
#define LOOP 0x4000u
#define QUEUES 0x8000u
#define BUFFERS 0x30000u
#define SEGMENT 0x40000u
#define QUEUE_NUMBER(device, q) ((device)*8u + (q))
#define QUEUE_AT(device, q) (QUEUES + QUEUE_NUMBER(device, q) * 0x1000u)
#define AVAIL 0x400u
#define USED 0x800u
#define QUEUE_SIZE 16u
#define DISK_BYTES (64u << 10)
#define SIGN '!' /* on the console: once more round */

enum { DEVICE_RNG, DEVICE_VSOCK, DEVICE_BALLOON, DEVICE_PMEM, DEVICE_BLK, DEVICES };
static const unsigned n_queues[DEVICES] = {1, 3, 5, 1, 1};

static _Noreturn void give_up(const char *what, const struct sm_error *err)
{
    fprintf(stderr, "tiny_vm: %s: %s\n", what, err ? err->text : strerror(errno));
    abort();
}

/* ---- the guest ---- */

static const uint8_t code[] = {
    0x48, 0xbe, 0,    0,    0, 0, 0, 0, 0, 0, /* mov rsi, the list */
    0x48, 0x8b, 0x3e,                         /* next: mov rdi, [rsi] */
    0x48, 0x85, 0xff,                         /* test rdi, rdi */
    0x74, 0x0d,                               /* jz end */
    0x8b, 0x1f,                               /* mov ebx, [rdi] */
    0x8b, 0x46, 0x08,                         /* mov eax, [rsi + 8] */
    0x89, 0x07,                               /* mov [rdi], eax */
    0x48, 0x83, 0xc6, 0x10,                   /* add rsi, 16 */
    0xeb, 0xeb,                               /* jmp next */
    0x66, 0xba, 0xf8, 0x03,                   /* end: mov dx, COM1 */
    0xb0, SIGN,                               /* mov al, SIGN */
    0xee,                                     /* out dx, al */
    0x48, 0xff, 0x05, 0,    0, 0, 0,          /* inc qword [rip + the counter] */
    0x48, 0xbe, 0,    0,    0, 0, 0, 0, 0, 0, /* mov rsi, the other list */
    0xeb, 0xd1,                               /* jmp next */
};
#define CODE_SETUP 2
#define CODE_COUNT 41
#define CODE_LOOP 47

struct list {
    uint8_t *at;
};

static void put(struct list *l, uint64_t address, uint32_t value)
{
    le64_put(l->at, address);
    le32_put(l->at + 8, value);
    l->at += 16;
}

static uint64_t reg(unsigned device, unsigned offset)
{
    return LAYOUT_VIRTIO_MMIO + device * LAYOUT_VIRTIO_STRIDE + offset;
}

/* VIRTIO 1.2 section 3.1.1, with no feature but VERSION_1 and a balloon's page reporting. */
static void set_up_device(struct list *l, unsigned device)
{
    put(l, reg(device, 0x70), 0);
    put(l, reg(device, 0x70), 1);
    put(l, reg(device, 0x70), 3);
    put(l, reg(device, 0x24), 0);
    put(l, reg(device, 0x20), device == DEVICE_BALLOON ? 1u << 5 : 0);
    put(l, reg(device, 0x24), 1);
    put(l, reg(device, 0x20), 1);
    put(l, reg(device, 0x70), 0xb);
    for (unsigned q = 0; q < n_queues[device]; q++) {
        uint32_t at = (uint32_t)ENTRY + QUEUE_AT(device, q);
        put(l, reg(device, 0x30), q);
        put(l, reg(device, 0x38), QUEUE_SIZE);
        put(l, reg(device, 0x80), at);
        put(l, reg(device, 0x90), at + AVAIL);
        put(l, reg(device, 0xa0), at + USED);
        put(l, reg(device, 0x44), 1);
    }
    put(l, reg(device, 0x70), 0xf);
}

static void use_device(struct list *l, unsigned device)
{
    for (unsigned q = 0; q < n_queues[device]; q++)
        put(l, reg(device, 0x50), q);
    put(l, reg(device, 0x64), 3);
    put(l, reg(device, 0x30), 0);
    put(l, reg(device, 0x100), 0);
}

static void use_ioapic(struct list *l)
{
    for (uint32_t r = 0x10; r < 0x40; r++) {
        put(l, LAYOUT_IOAPIC, r);
        put(l, LAYOUT_IOAPIC + 0x10, r & 1 ? 0 : 0x10000 | (0x20 + r));
    }
}

/* One chain of n buffers of these lengths; bit i of writable: the device writes the i-th. */
static uint8_t *offer(uint8_t *segment, unsigned device, unsigned q, const uint32_t *lengths,
                      unsigned n, unsigned writable)
{
    static const uint16_t next = 1, write = 2;
    uint8_t *queue = segment + QUEUE_AT(device, q);
    uint32_t buffer = BUFFERS + QUEUE_NUMBER(device, q) * 0x400;
    uint8_t *first = segment + buffer;
    for (unsigned i = 0; i < n; i++) {
        uint8_t *d = queue + i * 16;
        le64_put(d, ENTRY + buffer);
        le32_put(d + 8, lengths[i]);
        le16_put(d + 12, (uint16_t)((i + 1 < n ? next : 0) | (writable >> i & 1 ? write : 0)));
        le16_put(d + 14, (uint16_t)(i + 1));
        buffer += lengths[i];
    }
    le16_put(queue + AVAIL + 2, 1);
    return first;
}

static void put_rings(uint8_t *segment)
{
    offer(segment, DEVICE_RNG, 0, (const uint32_t[]){64}, 1, 1);
    offer(segment, DEVICE_VSOCK, 0, (const uint32_t[]){0x200}, 1, 1);
    uint8_t *request = offer(segment, DEVICE_VSOCK, 1, (const uint32_t[]){44}, 1, 0);
    le64_put(request, 3);     /* from the guest */
    le64_put(request + 8, 2); /* to the host */
    le32_put(request + 16, 5000);
    le32_put(request + 20, VM_AGENT_PORT);
    le16_put(request + 28, 1); /* a stream */
    le16_put(request + 30, 1); /* VIRTIO_VSOCK_OP_REQUEST */
    le32_put(request + 36, 4096);
    le32_put(offer(segment, DEVICE_BALLOON, 0, (const uint32_t[]){4}, 1, 0), 0x2000); /* a page */
    offer(segment, DEVICE_BALLOON, 4, (const uint32_t[]){0x200}, 1, 1);
    offer(segment, DEVICE_PMEM, 0, (const uint32_t[]){4, 4}, 2, 2);
    offer(segment, DEVICE_BLK, 0, (const uint32_t[]){16, 512, 1}, 3, 6); /* reads sector 0 */
}

static void make_guest(uint8_t *segment)
{
    struct list setup = {segment + SETUP}, loop = {segment + LOOP};
    memcpy(segment, code, sizeof code);
    le64_put(segment + CODE_SETUP, ENTRY + SETUP);
    le32_put(segment + CODE_COUNT, (uint32_t)(TINY_COUNTER - ENTRY) - (CODE_COUNT + 4));
    le64_put(segment + CODE_LOOP, ENTRY + LOOP);
    put_rings(segment);
    for (unsigned d = 0; d < DEVICES; d++) {
        set_up_device(&setup, d);
        use_device(&loop, d);
    }
    use_ioapic(&loop);
    for (unsigned d = 0; d < DEVICES; d++)
        use_device(&setup, d);
}

static void write_kernel(const char *path)
{
    static uint8_t segment[SEGMENT];
    struct {
        Elf64_Ehdr e;
        Elf64_Phdr p;
    } elf = {
        .e = {.e_type = ET_EXEC,
              .e_machine = EM_X86_64,
              .e_entry = ENTRY,
              .e_phoff = sizeof(Elf64_Ehdr),
              .e_phentsize = sizeof(Elf64_Phdr),
              .e_phnum = 1},
        .p = {.p_type = PT_LOAD,
              .p_offset = sizeof elf,
              .p_paddr = ENTRY,
              .p_filesz = SEGMENT,
              .p_memsz = SEGMENT},
    };
    memcpy(elf.e.e_ident, ELFMAG, SELFMAG);
    elf.e.e_ident[EI_CLASS] = ELFCLASS64;
    elf.e.e_ident[EI_DATA] = ELFDATA2LSB;
    memset(segment, 0, sizeof segment);
    make_guest(segment);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(&elf, sizeof elf, 1, f) != 1 || fwrite(segment, SEGMENT, 1, f) != 1 ||
        fclose(f) != 0)
        give_up(path, NULL);
}

/* ---- saving it ---- */

static void on_console(void *opaque, const uint8_t *data, size_t len)
{
    if (memchr(data, SIGN, len))
        atomic_store((atomic_bool *)opaque, true);
}

static void save(struct tiny_vm *t, struct vm *vm)
{
    static const uint8_t digest[STATE_DIGEST_SIZE];
    struct sm_error err = {0};
    uint64_t pause_ns;
    const struct vm_files files = {.ram = t->ram_fd};
    if (vm_capture(vm, &files, &t->state, &pause_ns, &err) != 0)
        give_up("cannot save", &err);
    state_bind(&t->state, digest);
}

static void run_and_save(struct tiny_vm *t)
{
    struct vm_config config = tiny_vm_config(t);
    struct sm_error err = {0};
    atomic_bool seen = false;
    enum vm_end end;
    struct vm *vm;
    config.console = on_console;
    config.console_opaque = &seen;
    if (vm_new(&config, &vm, &err) != 0 || vm_start(vm, &err) != 0)
        give_up("cannot start", &err);
    for (int ms = 0; !atomic_load(&seen); ms++)
        if (ms == 20000 || vm_wait(vm, 1, &end, &err) == 0)
            give_up("the guest did not set its devices up", &err);
    save(t, vm);
    vm_free(vm);
}

void tiny_vm_open(struct tiny_vm *t)
{
    *t = (struct tiny_vm){.dir = "/tmp/sm-tiny-vm-XXXXXX"};
    if (!mkdtemp(t->dir))
        give_up(t->dir, NULL);
    snprintf(t->kernel, sizeof t->kernel, "%s/kernel", t->dir);
    snprintf(t->layer, sizeof t->layer, "%s/layer", t->dir);
    write_kernel(t->kernel);
    FILE *layer = fopen(t->layer, "wb");
    if (!layer || fputs("layer", layer) < 0 || fclose(layer) != 0)
        give_up(t->layer, NULL);
    t->layers[0] = t->layer;
    t->disk_fd = memfd_create("tiny_disk", MFD_CLOEXEC);
    t->ram_fd = memfd_create("tiny_ram", MFD_CLOEXEC);
    if (t->disk_fd < 0 || t->ram_fd < 0 || ftruncate(t->disk_fd, DISK_BYTES) != 0)
        give_up("a file", NULL);
    t->volume = (struct vm_volume){.fd = t->disk_fd, .name = "tiny"};
    run_and_save(t);
}

void tiny_vm_close(struct tiny_vm *t)
{
    buf_fini(&t->state);
    close(t->disk_fd);
    close(t->ram_fd);
    unlink(t->kernel);
    unlink(t->layer);
    rmdir(t->dir);
}

/* ---- restoring it ---- */

struct vm_config tiny_vm_config(const struct tiny_vm *t)
{
    return (struct vm_config){.engine = &engine_soft,
                              .memory_bytes = TINY_MEMORY,
                              .vcpus = 1,
                              .kernel = t->kernel,
                              .layers = t->layers,
                              .n_layers = 1,
                              .volumes = &t->volume,
                              .n_volumes = 1,
                              .translate = ENGINE_TRANSLATE_NONE};
}

int tiny_vm_restore(const struct tiny_vm *t, const struct buf *state, int run_ms,
                    struct sm_error *err)
{
    struct vm_config config = tiny_vm_config(t);
    struct snapshot snapshot = {.memory_bytes = TINY_MEMORY,
                                .vcpus = 1,
                                .ram_fd = t->ram_fd,
                                .base_fd = -1,
                                .state = *state};
    enum vm_end end;
    struct vm *vm;
    snprintf(snapshot.cpu_vendor, sizeof snapshot.cpu_vendor, "%s", model_host_vendor());
    config.snapshot = &snapshot;
    int rc = vm_new(&config, &vm, err);
    if (rc)
        return rc;
    if (vm_start(vm, NULL) != 0)
        abort();
    vm_wait(vm, run_ms, &end, NULL);
    vm_free(vm);
    return 0;
}

/* ---- its state ---- */

unsigned tiny_state_sections(const struct buf *state, struct tiny_section out[TINY_SECTIONS_MAX])
{
    unsigned n = 0;
    size_t at = STATE_HEADER_SIZE;
    while (n < TINY_SECTIONS_MAX && at + STATE_SECTION_HEADER_SIZE <= state->len) {
        struct tiny_section *s = &out[n];
        memcpy(s->name, state->data + at, STATE_NAME_SIZE);
        s->at = at;
        s->len = le32_get(state->data + at + STATE_NAME_SIZE + 4);
        at += STATE_SECTION_HEADER_SIZE;
        if (s->len > state->len - at)
            break;
        at += s->len;
        n++;
    }
    return n;
}

void tiny_state_seal(struct buf *state)
{
    struct tiny_section sections[TINY_SECTIONS_MAX];
    unsigned n = tiny_state_sections(state, sections);
    for (unsigned i = 0; i < n; i++) {
        uint8_t *header = state->data + sections[i].at;
        struct hash *h = hash_new();
        if (!h)
            abort();
        hash_update(h, header, STATE_NAME_SIZE + 8);
        hash_update(h, header + STATE_SECTION_HEADER_SIZE, sections[i].len);
        hash_final_raw(h, header + STATE_NAME_SIZE + 8);
        hash_free(h);
    }
}
