/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does KVM really run guests here? A host may offer /dev/kvm, create VMs and yet have no VT-x or
 * AMD-V: a paravirtual KVM, which emulates an ordinary guest at about a million instructions per
 * second until it meets one that it cannot. So: the processor must show vmx or svm, and a small
 * 64-bit guest must do an FXRSTOR and then, once before a deadline, a loop in about the time that
 * the host needs for it. Once: a busy host may take the processor away in any one turn.
 */
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/thread.h"
#include "cpu/kvm/kvm.h"

#define CPUINFO_MAX (8u << 20)
#define MEMORY_BYTES (16ull << 20)
#define DEADLINE_MS 500
#define TURNS 20000u /* of the guest's loop: 2 instructions each */
/* Slower than the host's own loop by this factor and this much: not hardware. An emulator needs
 * 40 ms each time; what remains of hardware speed in a nested machine stays far below. */
#define SLOWER_FACTOR 20
#define SLOWER_NS 10000000ull

#define PORT_START 0xe0
#define PORT_END 0xe1

#define PML4 0x1000
#define PDPT 0x2000
#define DIRECTORY 0x3000
#define FX_AREA 0x4000
#define CODE 0x5000

struct probe {
    struct engine *e;
    uint64_t host_ns; /* for the same loop */
    uint64_t start_ns;
    bool fast;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
};

static void port_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct probe *p = opaque;

    if (offset == 0) {
        p->start_ns = clock_ns();
    } else if (clock_ns() - p->start_ns <= p->host_ns * SLOWER_FACTOR + SLOWER_NS) {
        p->fast = true;
        kvm_kick(p->e, 0);
    }
}

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    return ~0ull;
}

/* The guest's program. */
static const uint8_t program[] = {
    0x0f,
    0xae,
    0x04,
    0x25,
    0x00,
    0x40,
    0x00,
    0x00, /* fxsave FX_AREA */
    0x0f,
    0xae,
    0x0c,
    0x25,
    0x00,
    0x40,
    0x00,
    0x00, /* fxrstor FX_AREA */
    0xe6,
    PORT_START, /* 1: out %al, $PORT_START */
    0xb9,
    TURNS & 0xff,
    TURNS >> 8 & 0xff,
    0,
    0, /* mov $TURNS, %ecx */
    0xff,
    0xc9, /* 2: dec %ecx */
    0x75,
    0xfc, /* jnz 2b */
    0xe6,
    PORT_END, /* out %al, $PORT_END */
    0xeb,
    0xf1, /* jmp 1b */
};

static uint64_t host_loop_ns(void)
{
    uint32_t turns = TURNS;
    uint64_t from = clock_ns();

    __asm__ volatile("1: dec %0\n\tjnz 1b" : "+r"(turns) : : "cc");
    return clock_ns() - from;
}

static void write_guest(struct mem *m)
{
    const uint64_t pml4 = PDPT | 3, pdpt = DIRECTORY | 3, page = 0x80 | 3;

    mem_write(m, PML4, &pml4, sizeof pml4);
    mem_write(m, PDPT, &pdpt, sizeof pdpt);
    mem_write(m, DIRECTORY, &page, sizeof page);
    mem_write(m, CODE, program, sizeof program);
}

static int start_state(struct engine *e, struct sm_error *err)
{
    struct cpu_state s;
    int rc = kvm_get_state(e, 0, &s, err);

    if (rc)
        return rc;
    for (unsigned i = SEG_ES; i <= SEG_GS; i++)
        s.seg[i] = (struct seg_state){.limit = 0xffffffff, .selector = 0x18, .attr = 0xc093};
    s.seg[SEG_CS] = (struct seg_state){.limit = 0xffffffff, .selector = 0x10, .attr = 0xa09b};
    s.cr0 = 0x80000033; /* PG NE ET MP PE */
    s.cr3 = PML4;
    s.cr4 = 0x220;  /* PAE OSFXSR */
    s.efer = 0x500; /* LME LMA */
    s.rip = CODE;
    s.rflags = 2;
    s.mp = CPU_RUNNING;
    return kvm_set_state(e, 0, &s, err);
}

/* Kicks the guest when the deadline has passed. */
static void *watch(void *opaque)
{
    struct probe *p = opaque;
    int64_t until = clock_ms() + DEADLINE_MS;

    pthread_mutex_lock(&p->lock);
    while (!p->done && clock_wait(&p->changed, &p->lock, until) == 0)
        ;
    if (!p->done)
        kvm_kick(p->e, 0);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static int run_guest(struct probe *p, struct sm_error *err)
{
    enum vcpu_exit exit;
    pthread_t watcher;

    if (thread_start(&watcher, watch, p) != 0)
        return err_set(err, SM_ENOMEM, "kvm: cannot start a thread");
    int rc = kvm_run_vcpu(p->e, 0, &exit, err);
    pthread_mutex_lock(&p->lock);
    p->done = true;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->lock);
    pthread_join(watcher, NULL);
    if (rc)
        return err_wrap(err, rc, "a small guest did not run");
    if (exit == VCPU_EXIT_SHUTDOWN)
        return err_set(err, SM_EENGINE,
                       "kvm: a small guest crashed; use --engine soft "
                       "(SM_ENGINE_SOFT)");
    if (!p->fast)
        return err_set(err, SM_EENGINE,
                       "kvm: a guest did not once run %u instructions at hardware speed within "
                       "%d ms; use --engine soft (SM_ENGINE_SOFT)",
                       2 * TURNS, DEADLINE_MS);
    return 0;
}

int kvm_probe_speed(const struct kvm_host *host, struct sm_error *err)
{
    static const struct bus_ops port = {port_read, port_write};
    struct probe p = {.lock = PTHREAD_MUTEX_INITIALIZER, .host_ns = host_loop_ns()};
    struct bus mmio = {0}, pio = {0};
    struct mem *m;
    int rc = mem_new(MEMORY_BYTES, &m, err);

    if (rc)
        return rc;
    clock_cond_init(&p.changed);
    write_guest(m);
    struct engine_config config = {
        .mem = m, .mmio = &mmio, .pio = &pio, .n_vcpus = 1, .cpu_model = "v2"};
    rc = bus_add(&pio, PORT_START, PORT_END - PORT_START + 1, &port, &p, err);
    if (!rc)
        rc = kvm_create_on(host, &config, &p.e, err);
    if (!rc)
        rc = start_state(p.e, err);
    if (!rc)
        rc = run_guest(&p, err);
    engine_kvm.destroy(p.e);
    pthread_cond_destroy(&p.changed);
    mem_free(m);
    return rc;
}

/* Is flag a word of the first "flags" line? */
static bool flags_have(const char *text, const char *flag)
{
    const char *line = strstr(text, "\nflags");
    size_t len = strlen(flag), end = line ? 1 + strcspn(line + 1, "\n") : 0;

    for (size_t i = 1; line && i + len <= end; i++)
        if (line[i - 1] == ' ' && strncmp(line + i, flag, len) == 0 &&
            (line[i + len] == ' ' || line[i + len] == '\n' || line[i + len] == 0))
            return true;
    return false;
}

/* VT-x or AMD-V among the processor's features, as Linux names them. */
static bool has_virtualization(void)
{
    struct buf text = {0};
    bool found = false;

    if (io_slurp("/proc/cpuinfo", CPUINFO_MAX, &text, NULL) == 0 && buf_append(&text, "", 1) == 0)
        found = flags_have((char *)text.data, "vmx") || flags_have((char *)text.data, "svm");
    buf_fini(&text);
    return found;
}

int kvm_probe(struct sm_error *err)
{
    int fd, rc = kvm_open(&kvm_host_linux, &fd, err);

    if (rc)
        return rc;
    close(fd);
    if (!has_virtualization())
        return err_set(err, SM_EENGINE,
                       "kvm: /dev/kvm is there, but the processor shows neither vmx nor svm: this "
                       "KVM is paravirtual and runs an ordinary guest slowly until it fails; use "
                       "--engine soft (SM_ENGINE_SOFT)");
    return kvm_probe_speed(&kvm_host_linux, err);
}
