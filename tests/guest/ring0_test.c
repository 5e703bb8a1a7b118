/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile kernel (ring0.S) on one engine: ring0_test soft|kvm [numbers [PORTS]]. It reads and
 * writes MSRs, asks CPUID, uses every I/O port, and executes every opcode of the four maps behind
 * several prefixes. It may crash its VM as often as it likes; the host's process must not notice.
 * numbers: no opcodes; PORTS: above the PC's own devices, only one port in so many. SM_LONG=1 tries
 * every ModR/M byte.
 *
 * A crash, or a try that does not end, costs the guest its state: it is given a fresh one and goes
 * on with the next number. Exit: 0, 1, or 77 where the engine cannot run.
 */
#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xmmintrin.h>

#include "cpu/engine.h"
#include "ring0.h"

#define SKIPPED 77
#define PML4 0x1000
#define PDPT 0x2000
#define PC_PORTS 0x1000 /* I/O ports below: where a PC has its devices */
#define DIRECTORY 0x3000
#define STUCK_MS 40 /* a try takes microseconds; a halted vCPU takes for ever */
#define MEMORY_BYTES (16ull << 20)

extern const uint8_t ring0_start[], ring0_fault[], ring0_end[];

struct task {
    const char *name;
    uint32_t kind, first, last, step;
    uint32_t head, head_len;
    uint64_t value;
};

struct hostile {
    const struct engine_ops *ops;
    struct engine *engine;
    struct mem *mem;
    struct bus mmio, pio;
    struct cpu_state fresh; /* registers to start with */
    atomic_bool done;       /* the range is through */
    atomic_uint running;    /* counts runs; the watcher looks after the current one */
    atomic_bool end;
    unsigned tries, faults, crashes, stuck, failures;
};

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    return 0;
}

static void port_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct hostile *h = opaque;
    uint32_t index, last;

    /* The port is also one of those that are tried. */
    mem_read(h->mem, RING0_PARAMS + P_INDEX, &index, sizeof index);
    mem_read(h->mem, RING0_PARAMS + P_LAST, &last, sizeof last);
    if (index <= last)
        return;
    atomic_store(&h->done, true);
    h->ops->kick(h->engine, 0);
}

static void put32(struct hostile *h, gpa_t gpa, uint32_t value)
{
    mem_write(h->mem, gpa, &value, sizeof value);
}

/* The guest's memory as at the start: a hostile try may have written anywhere. */
static void write_memory(struct hostile *h, const struct task *t, uint32_t index)
{
    static const uint8_t zero[0x10000];
    const uint64_t pml4 = PDPT | 3, low = 0x83;
    const uint64_t pdpt[4] = {DIRECTORY | 3};
    const uint64_t gdt[6] = {0, 0, 0xaf9b000000ffff, 0xcf93000000ffff, 0x8b0065000067, 0};
    const uint64_t ist1 = RING0_FAULT_STACK;
    uint64_t fault = RING0_CODE + (uint64_t)(ring0_fault - ring0_start);

    mem_write(h->mem, 0, zero, sizeof zero);
    mem_write(h->mem, PML4, &pml4, sizeof pml4);
    mem_write(h->mem, PDPT, pdpt, sizeof pdpt);
    mem_write(h->mem, DIRECTORY, &low, sizeof low);
    mem_write(h->mem, RING0_CODE, ring0_start, (size_t)(ring0_end - ring0_start));
    mem_write(h->mem, RING0_GDT, gdt, sizeof gdt);
    mem_write(h->mem, RING0_TSS + 36, &ist1, sizeof ist1);
    for (unsigned i = 0; i < 256; i++) {
        /* 64-bit interrupt gate, IST 1 */
        const uint64_t gate[2] = {(fault & 0xffff) | 0x10 << 16 | 1ull << 32 | 0x8eull << 40 |
                                      (fault >> 16 & 0xffff) << 48,
                                  fault >> 32};

        mem_write(h->mem, RING0_IDT + 16 * i, gate, sizeof gate);
    }
    put32(h, RING0_PARAMS + P_KIND, t->kind);
    put32(h, RING0_PARAMS + P_INDEX, index);
    put32(h, RING0_PARAMS + P_LAST, t->last);
    put32(h, RING0_PARAMS + P_STEP, t->step);
    put32(h, RING0_PARAMS + P_HEAD, t->head);
    put32(h, RING0_PARAMS + P_HEAD_LEN, t->head_len);
    mem_write(h->mem, RING0_PARAMS + P_VALUE, &t->value, sizeof t->value);
}

static int make_engine(struct hostile *h)
{
    struct engine_config config = {
        .mem = h->mem, .mmio = &h->mmio, .pio = &h->pio, .n_vcpus = 1, .cpu_model = "v2"};
    struct cpu_state *s = &h->fresh;
    struct sm_error err;

    if (h->ops->create(&config, &h->engine, &err) != 0 ||
        h->ops->get_state(h->engine, 0, s, &err) != 0) {
        fprintf(stderr, "FAIL: %s\n", err.text);
        return -1;
    }
    for (unsigned i = SEG_ES; i <= SEG_GS; i++)
        s->seg[i] = (struct seg_state){.limit = 0xffffffff, .selector = 0x18, .attr = 0xc093};
    s->seg[SEG_CS] = (struct seg_state){.limit = 0xffffffff, .selector = 0x10, .attr = 0xa09b};
    s->seg[SEG_TR] =
        (struct seg_state){.base = RING0_TSS, .limit = 0x67, .selector = 0x20, .attr = 0x8b};
    s->gdt_base = RING0_GDT;
    s->gdt_limit = 47;
    s->idt_base = RING0_IDT;
    s->idt_limit = 4095;
    s->cr0 = 0x80010033; /* PG WP NE ET MP PE */
    s->cr3 = PML4;
    s->cr4 = 0x10620; /* PAE OSFXSR OSXMMEXCPT FSGSBASE */
    s->efer = 0xd01;  /* NX LMA LME SCE */
    s->rip = RING0_CODE;
    s->rflags = 2;
    s->mp = CPU_RUNNING;
    return 0;
}

/* Kicks a run that takes too long. Running counts up at each start and each end: odd means a run.
 */
static void *watch(void *opaque)
{
    const struct timespec tick = {.tv_nsec = STUCK_MS * 1000000l};
    struct hostile *h = opaque;
    uint32_t index, last_index = 0;
    unsigned seen = 0;

    while (!atomic_load(&h->end)) {
        nanosleep(&tick, NULL);
        unsigned now = atomic_load(&h->running);
        mem_read(h->mem, RING0_PARAMS + P_INDEX, &index, sizeof index);
        if (now % 2 == 1 && now == seen && index == last_index)
            h->ops->kick(h->engine, 0);
        seen = now;
        last_index = index;
    }
    return NULL;
}

/* One run. Where the guest is to go on, or -1. */
static int64_t attempt(struct hostile *h, const struct task *t, uint32_t from)
{
    enum vcpu_exit exit = VCPU_EXIT_FAILED;
    struct sm_error err = {0};
    uint64_t faults;
    uint32_t index;

    write_memory(h, t, from);
    if (h->ops->set_state(h->engine, 0, &h->fresh, &err) != 0) {
        fprintf(stderr, "FAIL: a fresh state is refused: %s\n", err.text);
        return -1;
    }
    atomic_fetch_add(&h->running, 1);
    int rc = h->ops->run(h->engine, 0, &exit, &err);
    atomic_fetch_add(&h->running, 1);
    mem_read(h->mem, RING0_PARAMS + P_INDEX, &index, sizeof index);
    mem_read(h->mem, RING0_PARAMS + P_FAULTS, &faults, sizeof faults);
    h->faults += (unsigned)faults;
    if (atomic_load(&h->done))
        return (int64_t)t->last + 1;
    if (rc != 0 && err.text[0] == 0) {
        fprintf(stderr, "FAIL: the engine ended without a reason\n");
        return -1;
    }
    h->failures += rc != 0;
    h->crashes += rc == 0 && exit == VCPU_EXIT_SHUTDOWN;
    h->stuck += rc == 0 && exit == VCPU_EXIT_KICKED;
    if (rc != 0 || exit != VCPU_EXIT_KICKED) { /* that VM has ended */
        h->ops->destroy(h->engine);
        if (make_engine(h) != 0)
            return -1;
    }
    /* Its own count may be among what it destroyed. */
    return index > from && index <= t->last + t->step ? index : (int64_t)from + t->step;
}

static int run_task(struct hostile *h, const struct task *t)
{
    int64_t at = t->first;
    unsigned crashes = h->crashes, stuck = h->stuck, failures = h->failures, faults = h->faults;

    atomic_store(&h->done, false);
    while (at >= 0 && at <= t->last && !atomic_load(&h->done))
        at = attempt(h, t, (uint32_t)at);
    if (at < 0)
        return -1;
    h->tries += (t->last - t->first) / t->step + 1;
    if (t->kind == KIND_OPCODE && !getenv("SM_VERBOSE")) /* hundreds: counted in the sum only */
        return 0;
    printf("%-28s %8u tries, %8u faults, %4u crashes, %4u stuck, %4u engine failures\n", t->name,
           (t->last - t->first) / t->step + 1, h->faults - faults, h->crashes - crashes,
           h->stuck - stuck, h->failures - failures);
    fflush(stdout);
    return 0;
}

static int numbers(struct hostile *h, uint32_t port_step)
{
    static const struct task tasks[] = {
        {"CPUID 0...", KIND_CPUID, 0, 0xff, 1},
        {"CPUID 40000000...", KIND_CPUID, 0x40000000, 0x400000ff, 1},
        {"CPUID 80000000...", KIND_CPUID, 0x80000000, 0x800000ff, 1},
        {"CPUID, sparse", KIND_CPUID, 0, 0xffffffff, 0x00800101},
        {"MSR 0..., read", KIND_MSR, 0, 0x1fff, 1},
        {"MSR 40000000..., read", KIND_MSR, 0x40000000, 0x400001ff, 1},
        {"MSR 4b564d00..., read", KIND_MSR, 0x4b564d00, 0x4b564dff, 1},
        {"MSR c0000000..., read", KIND_MSR, 0xc0000000, 0xc0001fff, 1},
        {"MSR c0010000..., read", KIND_MSR, 0xc0010000, 0xc0011fff, 1},
        {"MSR, sparse, read", KIND_MSR, 0, 0xffffffff, 0x00200fff},
        {"MSR 0..., all ones", KIND_MSR, 0, 0x1fff, 1, .value = ~0ull},
        {"MSR 0..., 1", KIND_MSR, 0, 0x1fff, 1, .value = 1},
        {"MSR 0..., an address", KIND_MSR, 0, 0x1fff, 1, .value = 0xd001},
        {"MSR 4b564d00..., an address", KIND_MSR, 0x4b564d00, 0x4b564dff, 1, .value = 0xd001},
        {"MSR 4b564d00..., no address", KIND_MSR, 0x4b564d00, 0x4b564dff, 1,
         .value = 0xfffffffffff1},
        {"MSR c0000000..., all ones", KIND_MSR, 0xc0000000, 0xc0001fff, 1, .value = ~0ull},
        {"MSR c0000000..., 1", KIND_MSR, 0xc0000000, 0xc0001fff, 1, .value = 1},
        {"MSR c0010000..., all ones", KIND_MSR, 0xc0010000, 0xc0011fff, 1, .value = ~0ull},
        {"I/O ports 0...", KIND_PORT, 0, PC_PORTS - 1, 1, .value = 0xffffffff},
    };
    const struct task others = {"I/O ports, others", KIND_PORT,          PC_PORTS, 0xffff,
                                port_step,           .value = 0xffffffff};

    for (size_t i = 0; i < sizeof tasks / sizeof tasks[0]; i++)
        if (run_task(h, &tasks[i]) != 0)
            return -1;
    return run_task(h, &others);
}

/* In the one-byte map, and of the jumps in the second: what follows the opcode is no ModR/M byte
 * but where to go, and most of that leads nowhere. */
static bool goes_away(unsigned map, unsigned opcode)
{
    if (map == 1)
        return opcode >= 0x80 && opcode <= 0x8f;
    return map == 0 &&
           ((opcode >= 0x70 && opcode <= 0x7f) || (opcode >= 0xe0 && opcode <= 0xe3) ||
            opcode == 0xe8 || opcode == 0xe9 || opcode == 0xeb || opcode == 0xf4 ||
            opcode == 0xc2 || opcode == 0xc3 || opcode == 0xca || opcode == 0xcb || opcode == 0xcf);
}

static int opcodes(struct hostile *h, uint32_t step)
{
    static const struct {
        uint32_t bytes, len;
        const char *name;
    } maps[] = {{0, 0, ""}, {0x0f, 1, "0f "}, {0x380f, 2, "0f38 "}, {0x3a0f, 2, "0f3a "}};
    static const uint8_t prefixes[] = {0, 0x66, 0xf3, 0xf2, 0x48, 0xf0};

    for (unsigned m = 0; m < 4; m++) {
        for (unsigned p = 0; p < sizeof prefixes; p++) {
            char name[64];
            uint32_t head = prefixes[p] ? maps[m].bytes << 8 | prefixes[p] : maps[m].bytes;
            unsigned begin = 0;

            /* Ranges between the opcodes that get one try each. */
            for (unsigned op = 0; op <= 256; op++) {
                if (op < 256 && !goes_away(m, op))
                    continue;
                struct task t = {.name = name,
                                 .kind = KIND_OPCODE,
                                 .step = step,
                                 .head = head,
                                 .head_len = maps[m].len + (prefixes[p] != 0)};
                t.first = begin << 8;
                t.last = (op << 8) - 1;
                snprintf(name, sizeof name, "opcodes %02x %s%02x...", prefixes[p], maps[m].name,
                         begin);
                if (op > begin && run_task(h, &t) != 0)
                    return -1;
                t.first = t.last = op << 8;
                snprintf(name, sizeof name, "opcode %02x %s%02x", prefixes[p], maps[m].name, op);
                if (op < 256 && run_task(h, &t) != 0)
                    return -1;
                begin = op + 1;
            }
        }
    }
    return 0;
}

static unsigned open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    while (dir && readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static uint16_t fcw(void)
{
    uint16_t value;

    __asm__ volatile("fnstcw %0" : "=m"(value));
    return value;
}

/* 0 if the host is as it was. */
static int run_all(struct hostile *h, bool numbers_only, uint32_t port_step)
{
    static const struct bus_ops port = {port_read, port_write};
    const char *more = getenv("SM_LONG");
    pthread_t watcher;
    unsigned fds = open_fds(), mxcsr = _mm_getcsr();
    uint16_t control = fcw();

    if (mem_new(MEMORY_BYTES, &h->mem, NULL) != 0 ||
        bus_add(&h->pio, RING0_PORT, 1, &port, h, NULL) != 0 || make_engine(h) != 0 ||
        pthread_create(&watcher, NULL, watch, h) != 0)
        return 1;
    int rc = numbers(h, port_step);
    if (!rc && !numbers_only)
        rc = opcodes(h, more ? 1 : 41);
    atomic_store(&h->end, true);
    pthread_join(watcher, NULL);
    h->ops->destroy(h->engine);
    mem_free(h->mem);
    printf("%s: %u tries, %u faults, %u crashes, %u stuck, %u engine failures\n", h->ops->name,
           h->tries, h->faults, h->crashes, h->stuck, h->failures);
    if (open_fds() != fds || (_mm_getcsr() & ~0x3fu) != (mxcsr & ~0x3fu) || fcw() != control) {
        printf("FAIL: files or the floating-point environment of the host changed\n");
        rc = -1;
    }
    return rc ? 1 : 0;
}

int main(int argc, char **argv)
{
    static struct hostile h;
    struct sm_error err;

    h.ops = argc >= 2 && strcmp(argv[1], "kvm") == 0 ? &engine_kvm : &engine_soft;
    if (h.ops->probe(&err) != 0) {
        printf("SKIP: %s\n", err.text);
        return SKIPPED;
    }
    int port_step = argc == 4 ? atoi(argv[3]) : 1;
    return run_all(&h, argc >= 3 && strcmp(argv[2], "numbers") == 0,
                   port_step > 0 ? (uint32_t)port_step : 1);
}
