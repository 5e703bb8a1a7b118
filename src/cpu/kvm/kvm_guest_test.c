/* SPDX-License-Identifier: Apache-2.0 */
/* The KVM engine with real, small guests. Where KVM does not run them (tests/l1 has a machine where
 * it does) this is skipped, with the reason. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "cpu/kvm/kvm.h"
#include "cpu/machine.h"

#define SKIPPED 77

/* Guest-physical places; the first 2 MiB, and 1 GiB at 3 GiB for devices, are mapped to themselves.
 */
#define PML4 0x1000
#define PDPT 0x2000
#define LOW 0x3000
#define HIGH 0x4000
#define CODE 0x5000
#define DATA 0x6000
#define STACK 0x8000
#define DEVICE 0xd0000000u
#define WINDOW 0xd0200000u
#define PORT 0xe0

struct env {
    struct mem *mem;
    struct bus mmio, pio;
    const struct engine_ops *ops;
    struct engine *engine;
    uint8_t *window;
    uint64_t last;    /* value of the last write to the device */
    unsigned ports;   /* writes to the port */
    unsigned stop_at; /* after so many, the engine is kicked */
    unsigned devices; /* writes to the device */
};

static uint64_t device_read(void *opaque, uint64_t offset, unsigned size)
{
    return 0x1122334455667788ull;
}

static void device_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct env *t = opaque;

    t->last = value;
    t->devices++;
}

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    return 0x5a;
}

static void port_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct env *t = opaque;

    if (++t->ports == t->stop_at)
        t->ops->kick(t->engine, 0);
}

static void make_engine(struct env *t, const struct engine_ops *ops)
{
    struct engine_config config = {
        .mem = t->mem, .mmio = &t->mmio, .pio = &t->pio, .n_vcpus = 1, .cpu_model = "v2"};
    struct sm_error err;

    t->ops = ops;
    if (ops->create(&config, &t->engine, &err) != 0)
        fail_msg("%s", err.text);
}

static int set_up(void **state)
{
    static const struct bus_ops device = {device_read, device_write};
    static const struct bus_ops port = {port_read, port_write};
    const uint64_t pml4 = PDPT | 3, low = 0x83;
    struct env *t = test_calloc(1, sizeof *t);
    uint64_t pdpt[4] = {LOW | 3, 0, 0, HIGH | 3}, high[512];

    for (uint64_t i = 0; i < 512; i++)
        high[i] = (3ull << 30) + (i << 21) + 0x83;
    if (mem_new(16 << 20, &t->mem, NULL) != 0)
        return -1;
    t->window = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(t->window, 0x77, 4096);
    mprotect(t->window, 4096, PROT_READ);
    mem_add_window(t->mem, WINDOW, 4096, t->window, true, NULL);
    bus_add(&t->mmio, DEVICE, 0x100, &device, t, NULL);
    bus_add(&t->pio, PORT, 1, &port, t, NULL);
    mem_write(t->mem, PML4, &pml4, sizeof pml4);
    mem_write(t->mem, PDPT, pdpt, sizeof pdpt);
    mem_write(t->mem, LOW, &low, sizeof low);
    mem_write(t->mem, HIGH, high, sizeof high);
    make_engine(t, &engine_kvm);
    *state = t;
    return 0;
}

static int tear_down(void **state)
{
    struct env *t = *state;

    t->ops->destroy(t->engine);
    mem_free(t->mem);
    munmap(t->window, 4096);
    test_free(t);
    return 0;
}

/* Registers for 64-bit code at CODE. */
static void load(struct env *t, const void *code, size_t len)
{
    struct cpu_state s;
    struct sm_error err;

    mem_write(t->mem, CODE, code, len);
    assert_int_equal(t->ops->get_state(t->engine, 0, &s, &err), 0);
    for (unsigned i = SEG_ES; i <= SEG_GS; i++)
        s.seg[i] = (struct seg_state){.limit = 0xffffffff, .selector = 0x18, .attr = 0xc093};
    s.seg[SEG_CS] = (struct seg_state){.limit = 0xffffffff, .selector = 0x10, .attr = 0xa09b};
    s.cr0 = 0x80000033;
    s.cr3 = PML4;
    s.cr4 = 0x220; /* PAE OSFXSR */
    s.efer = 0x500;
    s.rip = CODE;
    s.gpr[4] = STACK;
    s.rflags = 2;
    s.mp = CPU_RUNNING;
    if (t->ops->set_state(t->engine, 0, &s, &err) != 0)
        fail_msg("%s", err.text);
}

static enum vcpu_exit run(struct env *t)
{
    enum vcpu_exit exit;
    struct sm_error err;

    alarm(60); /* a guest that does not come back ends the test, not the machine's patience */
    if (t->ops->run(t->engine, 0, &exit, &err) != 0)
        fail_msg("%s", err.text);
    alarm(0);
    return exit;
}

#define LOAD(t, code) load(t, code, sizeof(code) - 1)

/* ---- kicks ---- */

static void *kick_soon(void *opaque)
{
    const struct timespec ms2 = {.tv_nsec = 2000000};
    struct env *t = opaque;

    nanosleep(&ms2, NULL);
    t->ops->kick(t->engine, 0);
    return NULL;
}

static void kicks(void **state)
{
    static const char *const codes[] = {"\xeb\xfe" /* jmp . */, "\xfa\xf4\xeb\xfd" /* cli; hlt */};
    struct env *t = *state;
    pthread_t thread;

    for (unsigned i = 0; i < 40; i++) {
        load(t, codes[i / 20], strlen(codes[i / 20]));
        t->ops->kick(t->engine, 0); /* before run(): not lost */
        assert_int_equal(run(t), VCPU_EXIT_KICKED);
        assert_int_equal(pthread_create(&thread, NULL, kick_soon, t), 0);
        assert_int_equal(run(t), VCPU_EXIT_KICKED);
        pthread_join(thread, NULL);
    }
}

static void on_alarm(int signal)
{
}

/* A thousand signals a second that are not ours, and kicks from within the guest's own accesses. */
static void signal_storm(void **state)
{
    const struct itimerval fast = {{0, 1000}, {0, 1000}}, none = {{0, 0}, {0, 0}};
    struct sigaction action = {.sa_handler = on_alarm}, old;
    struct env *t = *state;

    LOAD(t, "\xe6\xe0\xeb\xfc"); /* 1: out %al, $PORT; jmp 1b */
    sigaction(SIGALRM, &action, &old);
    setitimer(ITIMER_REAL, &fast, NULL);
    for (t->stop_at = 50; t->stop_at <= 2000; t->stop_at += 50) {
        enum vcpu_exit exit;
        struct sm_error err;

        assert_int_equal(t->ops->run(t->engine, 0, &exit, &err), 0);
        assert_int_equal(exit, VCPU_EXIT_KICKED);
        assert_int_equal(t->ports, t->stop_at); /* no access lost, none twice */
    }
    setitimer(ITIMER_REAL, &none, NULL);
    sigaction(SIGALRM, &old, NULL);
}

/* ---- exits ---- */

static void triple_fault(void **state)
{
    struct env *t = *state;

    LOAD(t, "\x0f\x0b"); /* ud2, and there is no IDT */
    assert_int_equal(run(t), VCPU_EXIT_SHUTDOWN);
}

static void devices(void **state)
{
    struct env *t = *state;
    uint64_t seen[3];

    /* mov $0xd0000010, %eax; mov (%rax), %rbx; mov %rbx, 0x6000; movl $0x12345678, (%rax);
     * in $PORT, %al; mov %al, 0x6008; mov 0xd0200000, %ecx (window); movl $0, (that);
     * mov (that), %edx; mov %edx, 0x6010; out %al, $PORT; jmp . */
    LOAD(t, "\xb8\x10\x00\x00\xd0\x48\x8b\x18\x48\x89\x1c\x25\x00\x60\x00\x00"
            "\xc7\x00\x78\x56\x34\x12\xe4\xe0\x88\x04\x25\x08\x60\x00\x00"
            "\xb9\x00\x00\x20\xd0\xc7\x01\x00\x00\x00\x00\x8b\x11\x89\x14\x25\x10\x60\x00\x00"
            "\xe6\xe0\xeb\xfe");
    t->stop_at = 1;
    assert_int_equal(run(t), VCPU_EXIT_KICKED);
    mem_read(t->mem, DATA, seen, sizeof seen);
    assert_int_equal(seen[0], 0x1122334455667788ull);
    assert_int_equal(t->last, 0x12345678);
    assert_int_equal(seen[1] & 0xff, 0x5a);
    assert_int_equal(seen[2], 0x77777777); /* a read-only window ignores writes */
}

static void notify(void **state)
{
    struct env *t = *state;
    struct sm_error err;
    uint64_t count = 0;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    assert_int_equal(t->ops->notify(t->engine, DEVICE + 0x50, 1, fd, &err), 0);
    /* mov $0xd0000050, %eax; movl $1, (%rax) twice; movl $2, (%rax); out %al, $PORT; jmp . */
    LOAD(t, "\xb8\x50\x00\x00\xd0\xc7\x00\x01\x00\x00\x00\xc7\x00\x01\x00\x00\x00"
            "\xc7\x00\x02\x00\x00\x00\xe6\xe0\xeb\xfe");
    t->stop_at = 1;
    assert_int_equal(run(t), VCPU_EXIT_KICKED);
    assert_int_equal(read(fd, &count, sizeof count), sizeof count);
    assert_int_equal(count, 2);
    assert_int_equal(t->devices, 1);
    assert_int_equal(t->last, 2);
    close(fd);
}

static void cpuid_in_the_guest(void **state)
{
    struct env *t = *state;
    struct model_cpu cpu = {
        .amd = model_host_is_amd(), .n_vcpus = 1, .tsc_khz = t->engine->tsc_khz};

    /* 1: mov 0x6000, %eax; mov 0x6004, %ecx; cpuid; mov each to 0x6010...; out; jmp 1b */
    LOAD(t, "\x8b\x04\x25\x00\x60\x00\x00\x8b\x0c\x25\x04\x60\x00\x00\x0f\xa2"
            "\x89\x04\x25\x10\x60\x00\x00\x89\x1c\x25\x14\x60\x00\x00"
            "\x89\x0c\x25\x18\x60\x00\x00\x89\x14\x25\x1c\x60\x00\x00\xe6\xe0\xeb\xd0");
    for (uint32_t base = 0; base < 3; base++) {
        for (uint32_t n = 0; n < 32 * 4; n++) {
            const uint32_t in[2] = {(base == 0 ? 0 : 0x40000000u << (base - 1)) + n / 4, n % 4};
            uint32_t out[4], want[4];

            mem_write(t->mem, DATA, in, sizeof in);
            t->stop_at = t->ports + 1;
            assert_int_equal(run(t), VCPU_EXIT_KICKED);
            mem_read(t->mem, DATA + 0x10, out, sizeof out);
            model_cpuid(&cpu, in[0], in[1], want);
            if (memcmp(out, want, sizeof want) != 0)
                fail_msg("CPUID %#x.%u: %08x %08x %08x %08x, the model has %08x %08x %08x %08x",
                         in[0], in[1], out[0], out[1], out[2], out[3], want[0], want[1], want[2],
                         want[3]);
        }
    }
}

/* ---- state ---- */

static void state_round_trip(void **state)
{
    static struct cpu_state s, again;
    struct env *t = *state;
    struct sm_error err;

    LOAD(t, "\xeb\xfe");
    assert_int_equal(t->ops->get_state(t->engine, 0, &s, &err), 0);
    for (unsigned i = 0; i < 16; i++)
        s.gpr[i] = 0x0101010101010101ull * i;
    s.seg[SEG_FS].base = 0x7fff12345678;
    s.star = 0x1234567800000000;
    s.lstar = 0xffffffff81000000;
    s.kernel_gs_base = 0xffff888000000000;
    s.tsc_offset -= 1ull << 40;
    s.tsc_adjust = 77;
    s.misc_enable = 1;
    s.mtrr_var[3] = 0x800 | 0xfff0000000;
    s.dr[2] = 0x1234;
    s.cr8 = 3;
    s.lapic[0x80] = s.lapic[0xa0] = 0x30; /* TPR, and PPR follows */
    s.xsave[CPU_XSAVE_HEADER] = 3;
    for (unsigned i = 0; i < 16; i++)
        memset(s.xsave + 160 + 16 * i, 0xa0 + (int)i, 16);
    if (t->ops->set_state(t->engine, 0, &s, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(t->ops->get_state(t->engine, 0, &again, &err), 0);
    assert_memory_equal(s.gpr, again.gpr, sizeof s.gpr);
    assert_memory_equal(s.seg, again.seg, sizeof s.seg);
    assert_memory_equal(s.mtrr_var, again.mtrr_var, sizeof s.mtrr_var);
    assert_memory_equal(s.mtrr_fixed, again.mtrr_fixed, sizeof s.mtrr_fixed);
    assert_memory_equal(s.dr, again.dr, sizeof s.dr);
    assert_memory_equal(s.lapic, again.lapic, sizeof s.lapic);
    assert_memory_equal(s.xsave + 160, again.xsave + 160, 256);
    assert_int_equal(s.star, again.star);
    assert_int_equal(s.lstar, again.lstar);
    /* On a host whose TSC is not the same on all CPUs, KVM adjusts it at each change of CPU. */
    assert_in_range(again.tsc_offset - s.tsc_offset + ((uint64_t)t->engine->tsc_khz * 1000), 0,
                    (uint64_t)t->engine->tsc_khz * 2000);
    assert_int_equal(s.tsc_adjust, again.tsc_adjust);
    assert_int_equal(s.cr8, again.cr8);
    assert_int_equal(s.apic_base, again.apic_base);
    assert_int_equal(s.xcr0, again.xcr0);
    assert_int_equal(again.mp, CPU_RUNNING);
    assert_int_equal(s.apic_base, 0xfee00d00);
    assert_int_equal(s.mtrr_def_type, 0xc06);
}

static void machine_round_trip(void **state)
{
    struct machine_state m, again;
    struct env *t = *state;
    struct sm_error err;

    assert_int_equal(t->ops->get_machine(t->engine, &m, &err), 0);
    m.ioapic_redirect[5] = 0x0300000000018031; /* level, masked, to APIC 3 */
    m.ioapic_id = 2u << 24;
    m.ioapic_select = 0x1a;
    m.system_ns = 123456789012345;
    assert_int_equal(t->ops->set_machine(t->engine, &m, &err), 0);
    assert_int_equal(t->ops->get_machine(t->engine, &again, &err), 0);
    assert_memory_equal(m.ioapic_redirect, again.ioapic_redirect, sizeof m.ioapic_redirect);
    assert_int_equal(again.ioapic_id, m.ioapic_id);
    assert_int_equal(again.ioapic_select, m.ioapic_select);
    assert_in_range(again.system_ns, m.system_ns, m.system_ns + 30000000000ull);
}

/* Leave one engine in the middle of a loop and go on in the other. */
static void move_to(struct env *t, const struct engine_ops *ops)
{
    static struct cpu_state cpu;
    struct machine_state machine, now;
    struct sm_error err;

    assert_int_equal(t->ops->get_state(t->engine, 0, &cpu, &err), 0);
    assert_int_equal(t->ops->get_machine(t->engine, &machine, &err), 0);
    t->ops->destroy(t->engine);
    make_engine(t, ops);
    assert_int_equal(t->ops->get_machine(t->engine, &now, &err), 0);
    machine_resume(&machine, &cpu, 1, &now);
    if (t->ops->set_machine(t->engine, &machine, &err) != 0 ||
        t->ops->set_state(t->engine, 0, &cpu, &err) != 0)
        fail_msg("%s", err.text);
}

static void moves_between_engines(void **state)
{
    const struct engine_ops *const both[] = {&engine_soft, &engine_kvm};
    struct env *t = *state;
    uint64_t count, before = 0, tsc;

    /* pcmpeqd %xmm5, %xmm5; 1: inc %rbx; psubq %xmm5, %xmm6 (counts too); movq %xmm6, 0x6000;
     * rdtsc; mov %eax, 0x6008; mov %edx, 0x600c; out %al, $PORT; jmp 1b */
    LOAD(t, "\x66\x0f\x76\xed\x48\xff\xc3\x66\x0f\xfb\xf5\x66\x0f\xd6\x34\x25\x00\x60\x00\x00"
            "\x0f\x31\x89\x04\x25\x08\x60\x00\x00\x89\x14\x25\x0c\x60\x00\x00\xe6\xe0\xeb\xdb");
    for (unsigned i = 0; i < 10; i++) {
        t->stop_at = t->ports + 7;
        assert_int_equal(run(t), VCPU_EXIT_KICKED);
        mem_read(t->mem, DATA, &count, sizeof count);
        mem_read(t->mem, DATA + 8, &tsc, sizeof tsc);
        assert_int_equal(count, t->ports);
        assert_true(tsc > before); /* time does not go back */
        before = tsc;
        move_to(t, both[i % 2]);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(kicks),
        T(signal_storm),
        T(triple_fault),
        T(devices),
        T(notify),
        T(cpuid_in_the_guest),
        T(state_round_trip),
        T(machine_round_trip),
        T(moves_between_engines),
    };
    struct sm_error err;

    if (engine_kvm.probe(&err) != 0) {
        printf("SKIP: %s\n", err.text);
        return SKIPPED;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
