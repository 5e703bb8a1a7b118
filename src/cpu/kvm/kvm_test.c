/* SPDX-License-Identifier: Apache-2.0 */
/* The KVM engine over a kernel that misbehaves on command (kvm_fake.h). Needs no KVM. */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/kvm/kvm_fake.h"

struct env {
    struct kvm_fake fake;
    struct kvm_host host;
    struct mem *mem;
    struct bus mmio, pio;
    struct engine_config config;
    struct engine *engine;
    struct sm_error err;
    uint64_t written[16];
    unsigned n_written;
};

static uint64_t device_read(void *opaque, uint64_t offset, unsigned size)
{
    return 0x1122334455667788ull + offset;
}

static void device_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct env *t = opaque;

    assert_in_range(t->n_written, 0, 15);
    t->written[t->n_written++] = value << 8 | size;
}

static int set_up(void **state)
{
    static const struct bus_ops device = {device_read, device_write};
    struct env *t = test_calloc(1, sizeof *t);

    kvm_fake_init(&t->fake);
    t->host = kvm_fake_host(&t->fake);
    if (mem_new(16 << 20, &t->mem, NULL) != 0 ||
        bus_add(&t->mmio, 0xd0000000, 0x100, &device, t, NULL) != 0 ||
        bus_add(&t->pio, 0x100, 8, &device, t, NULL) != 0)
        return -1;
    t->config = (struct engine_config){
        .mem = t->mem, .mmio = &t->mmio, .pio = &t->pio, .n_vcpus = 1, .cpu_model = "v2"};
    *state = t;
    return 0;
}

static int tear_down(void **state)
{
    struct env *t = *state;

    engine_kvm.destroy(t->engine);
    mem_free(t->mem);
    test_free(t);
    return 0;
}

static int make(struct env *t)
{
    int rc = kvm_create_on(&t->host, &t->config, &t->engine, &t->err);

    t->fake.run = t->engine ? t->engine->vcpus[0].run : NULL;
    return rc;
}

static unsigned open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static void has(const struct env *t, const char *text)
{
    if (!strstr(t->err.text, text))
        fail_msg("\"%s\" is not in \"%s\"", text, t->err.text);
}

/* ---- making a VM ---- */

static void open_errors(void **state)
{
    static const struct {
        int error;
        const char *text;
    } cases[] = {{ENOENT, "/dev/kvm does not exist"},
                 {EACCES, "join the group "},
                 {EPERM, "join the group "},
                 {ENODEV, "no KVM behind it"},
                 {EMFILE, "Too many open files"}};
    struct env *t = *state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        t->fake.open_errno = cases[i].error;
        assert_int_equal(make(t), SM_EENGINE);
        has(t, cases[i].text);
        has(t, "--engine soft");
    }
    t->fake.open_errno = ENOMEM;
    assert_int_equal(make(t), SM_ENOMEM);
}

static void wrong_version(void **state)
{
    struct env *t = *state;

    t->fake.version = 11;
    assert_int_equal(make(t), SM_EENGINE);
    has(t, "version 11 of the API, not 12");
    has(t, "--engine soft");
}

static void missing_capability(void **state)
{
    static const struct {
        int cap;
        const char *name;
    } caps[] = {{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
                {KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
                {KVM_CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM"},
                {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
                {KVM_CAP_TSC_DEADLINE_TIMER, "KVM_CAP_TSC_DEADLINE_TIMER"}};
    struct env *t = *state;

    for (size_t i = 0; i < sizeof caps / sizeof caps[0]; i++) {
        t->fake.missing_cap = caps[i].cap;
        assert_int_equal(make(t), SM_EENGINE);
        has(t, caps[i].name);
        has(t, "--engine soft");
    }
    t->fake.missing_cap = KVM_CAP_IRQFD; /* not asked for what is not used */
    assert_int_equal(make(t), 0);
}

/* Every call that making a VM needs fails in turn: a typed error, and nothing stays open. */
static void every_call_fails(void **state)
{
    struct env *t = *state;
    unsigned before = open_fds(), calls, failures = 0;

    assert_int_equal(make(t), 0);
    calls = t->fake.calls;
    engine_kvm.destroy(t->engine);
    t->engine = NULL;
    for (unsigned i = 1; i <= calls; i++) {
        t->fake.calls = 0;
        t->fake.fail_call = i;
        t->fake.failed = 0;
        t->fake.fail_errno = i % 2 ? ENOMEM : EPERM;
        int rc = make(t);
        if (rc == 0) { /* optional: XCRS, the TSC attribute */
            engine_kvm.destroy(t->engine);
            t->engine = NULL;
            continue;
        }
        failures++;
        assert_null(t->engine);
        assert_true(rc == (i % 2 ? SM_ENOMEM : SM_EENGINE) || t->fake.failed == KVM_GET_TSC_KHZ);
        assert_true(t->err.text[0]);
    }
    assert_in_range(failures, calls - 2, calls);
    assert_int_equal(open_fds(), before);
}

static void storms_while_making(void **state)
{
    struct env *t = *state;

    t->fake.storm = 50;
    assert_int_equal(make(t), 0);
}

static void cpuid_is_the_model(void **state)
{
    struct env *t = *state;
    struct model_cpu cpu = {.amd = model_host_is_amd(), .n_vcpus = 1, .tsc_khz = 1000000};

    assert_int_equal(make(t), 0);
    assert_in_range(t->fake.n_cpuid, 20, 64);
    for (unsigned i = 0; i < t->fake.n_cpuid; i++) {
        const struct kvm_cpuid_entry2 *e = &t->fake.cpuid[i];
        const uint32_t given[4] = {e->eax, e->ebx, e->ecx, e->edx};
        uint32_t want[4];

        model_cpuid(&cpu, e->function, e->index, want);
        assert_memory_equal(given, want, sizeof want);
    }
}

/* Without a wish for a model, KVM's lack of AVX is no error. */
static void cpuid_gives_way(void **state)
{
    struct env *t = *state;
    enum model_id highest;

    assert_int_equal(model_choose(NULL, &highest, NULL), 0);
    t->config.cpu_model = NULL;
    assert_int_equal(make(t), 0);
    assert_int_equal(t->engine->model, highest);
    engine_kvm.destroy(t->engine);
    t->engine = NULL;
    t->fake.clear_ecx = 1u << 28; /* AVX */
    assert_int_equal(make(t), 0);
    assert_int_equal(t->engine->model, MODEL_V2);
}

static void cpuid_not_possible(void **state)
{
    struct env *t = *state;

    t->fake.clear_ecx = 1u << 21; /* x2APIC */
    assert_int_equal(make(t), SM_EENGINE);
    has(t, "bit 21 of CPUID 0x1 ECX");
    t->fake.clear_ecx = 0;
    t->fake.tsc_khz = 0;
    assert_int_equal(make(t), SM_EENGINE);
    has(t, "no known rate");
}

static void config_refused(void **state)
{
    struct env *t = *state;

    t->config.n_vcpus = 9;
    assert_int_equal(make(t), SM_EINVAL);
    t->config.n_vcpus = 0;
    assert_int_equal(make(t), SM_EINVAL);
    t->config.n_vcpus = 1;
    t->config.cpu_model = "v9";
    assert_int_equal(make(t), SM_EINVAL);
    has(t, "v9");
}

/* ---- running ---- */

static int storm_then_shutdown(struct kvm_fake *f)
{
    if (f->runs < 100000) {
        errno = f->runs % 3 ? EINTR : EAGAIN;
        return -1;
    }
    f->run->exit_reason = KVM_EXIT_SHUTDOWN;
    return 0;
}

static void storms_while_running(void **state)
{
    struct env *t = *state;
    enum vcpu_exit exit;

    assert_int_equal(make(t), 0);
    t->fake.on_run = storm_then_shutdown;
    assert_int_equal(engine_kvm.run(t->engine, 0, &exit, &t->err), 0);
    assert_int_equal(exit, VCPU_EXIT_SHUTDOWN);
    assert_int_equal(t->fake.runs, 100000);
}

/* As the kernel does it: out when told to, without having run. */
static int until_told(struct kvm_fake *f)
{
    while (!__atomic_load_n(&f->run->immediate_exit, __ATOMIC_SEQ_CST))
        sched_yield();
    errno = EINTR;
    return -1;
}

static void *kick_soon(void *opaque)
{
    struct env *t = opaque;
    const struct timespec ms20 = {.tv_nsec = 20000000};

    nanosleep(&ms20, NULL);
    engine_kvm.kick(t->engine, 0);
    return NULL;
}

static void kicks(void **state)
{
    struct env *t = *state;
    enum vcpu_exit exit = VCPU_EXIT_FAILED;
    pthread_t thread;

    assert_int_equal(make(t), 0);
    t->fake.on_run = until_told;
    engine_kvm.kick(t->engine, 0); /* before run(): not lost; and two are one */
    engine_kvm.kick(t->engine, 0);
    assert_int_equal(engine_kvm.run(t->engine, 0, &exit, &t->err), 0);
    assert_int_equal(exit, VCPU_EXIT_KICKED);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(pthread_create(&thread, NULL, kick_soon, t), 0);
        exit = VCPU_EXIT_FAILED;
        assert_int_equal(engine_kvm.run(t->engine, 0, &exit, &t->err), 0);
        assert_int_equal(exit, VCPU_EXIT_KICKED);
        pthread_join(thread, NULL);
    }
    sigset_t pending;
    sigpending(&pending);
    assert_false(sigismember(&pending, KVM_KICK_SIGNAL));
}

/* ---- why it came back ---- */

static int as_prepared(struct kvm_fake *f)
{
    if (f->runs > 1) { /* the access was done: end */
        f->run->exit_reason = KVM_EXIT_SHUTDOWN;
    }
    return 0;
}

static int run_prepared(struct env *t, enum vcpu_exit *exit)
{
    t->fake.runs = 0;
    t->fake.on_run = as_prepared;
    t->err.text[0] = 0;
    return engine_kvm.run(t->engine, 0, exit, &t->err);
}

static void unknown_exits_end_the_vm(void **state)
{
    struct env *t = *state;
    enum vcpu_exit exit;

    assert_int_equal(make(t), 0);
    for (uint32_t reason = 0; reason < 200; reason++) {
        if (reason == KVM_EXIT_IO || reason == KVM_EXIT_MMIO || reason == KVM_EXIT_SHUTDOWN)
            continue;
        t->fake.run->exit_reason = reason;
        assert_int_equal(run_prepared(t, &exit), SM_EENGINE);
        assert_int_equal(exit, VCPU_EXIT_FAILED);
        assert_int_equal(t->fake.runs, 1);
        has(t, "kvm: ");
    }
}

static void exits_say_why(void **state)
{
    struct env *t = *state;
    enum vcpu_exit exit;

    assert_int_equal(make(t), 0);
    struct kvm_run *run = t->fake.run;
    run->exit_reason = KVM_EXIT_FAIL_ENTRY;
    run->fail_entry.hardware_entry_failure_reason = 0x80000021;
    assert_int_equal(run_prepared(t, &exit), SM_EENGINE);
    has(t, "refused to enter vCPU 0");
    has(t, "0x80000021");
    run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
    run->internal.suberror = KVM_INTERNAL_ERROR_EMULATION;
    assert_int_equal(run_prepared(t, &exit), SM_EENGINE);
    has(t, "could not emulate");
    run->internal.suberror = 99;
    assert_int_equal(run_prepared(t, &exit), SM_EENGINE);
    has(t, "internal error 99");
    run->exit_reason = KVM_EXIT_UNKNOWN;
    run->hw.hardware_exit_reason = 0x77;
    assert_int_equal(run_prepared(t, &exit), SM_EENGINE);
    has(t, "0x77");
}

static int fails(struct kvm_fake *f)
{
    errno = EFAULT;
    return -1;
}

static void run_fails(void **state)
{
    struct env *t = *state;
    enum vcpu_exit exit;

    assert_int_equal(make(t), 0);
    t->fake.on_run = fails;
    assert_int_equal(engine_kvm.run(t->engine, 0, &exit, &t->err), SM_EENGINE);
    assert_int_equal(exit, VCPU_EXIT_FAILED);
    assert_int_equal(t->fake.runs, 1);
    has(t, "KVM_RUN failed: Bad address");
}

static void port_io(void **state)
{
    struct env *t = *state;
    enum vcpu_exit exit;

    assert_int_equal(make(t), 0);
    struct kvm_run *run = t->fake.run;
    uint8_t *data = (uint8_t *)run + 4096;
    run->exit_reason = KVM_EXIT_IO;
    run->io.data_offset = 4096;
    run->io.direction = KVM_EXIT_IO_OUT; /* rep outsw */
    run->io.size = 2;
    run->io.count = 3;
    run->io.port = 0x102;
    memcpy(data, "\x01\x02\x03\x04\x05\x06", 6);
    assert_int_equal(run_prepared(t, &exit), 0);
    assert_int_equal(exit, VCPU_EXIT_SHUTDOWN);
    assert_int_equal(t->n_written, 3);
    assert_int_equal(t->written[0], 0x020102);
    assert_int_equal(t->written[2], 0x060502);
    run->exit_reason = KVM_EXIT_IO;
    run->io.direction = KVM_EXIT_IO_IN;
    run->io.size = 4;
    run->io.count = 1;
    run->io.port = 0x101;
    assert_int_equal(run_prepared(t, &exit), 0);
    assert_memory_equal(data, "\x89\x77\x66\x55", 4);
    run->exit_reason = KVM_EXIT_IO;
    run->io.port = 0x106; /* over the device's end */
    assert_int_equal(run_prepared(t, &exit), 0);
    assert_memory_equal(data, "\xff\xff\xff\xff", 4);
}

static void memory_io(void **state)
{
    struct env *t = *state;
    enum vcpu_exit exit;

    assert_int_equal(make(t), 0);
    struct kvm_run *run = t->fake.run;
    for (unsigned len = 1; len <= 8; len++) {
        run->exit_reason = KVM_EXIT_MMIO;
        run->mmio.phys_addr = 0xd0000010;
        run->mmio.len = len;
        run->mmio.is_write = 1;
        memset(run->mmio.data, 0xab, 8);
        t->n_written = 0;
        assert_int_equal(run_prepared(t, &exit), 0);
        bool whole = (len & (len - 1)) == 0;
        assert_int_equal(t->n_written, whole);
        if (whole && len < 8)
            assert_int_equal(t->written[0], (0xabababababababab >> (64 - 8 * len)) << 8 | len);
        run->exit_reason = KVM_EXIT_MMIO;
        run->mmio.is_write = 0;
        assert_int_equal(run_prepared(t, &exit), 0);
        assert_memory_equal(run->mmio.data, whole ? "\x98\x77\x66\x55" : "\xff\xff\xff\xff",
                            len < 4 ? len : 4);
    }
}

/* ---- state ---- */

static void state_refused(void **state)
{
    struct env *t = *state;
    struct cpu_state s;

    assert_int_equal(make(t), 0);
    assert_int_equal(engine_kvm.get_state(t->engine, 0, &s, &t->err), 0);
    s.xcr0 = 1;
    assert_int_equal(engine_kvm.set_state(t->engine, 0, &s, &t->err), 0);
    t->fake.fail_request = KVM_SET_SREGS;
    t->fake.fail_errno = EINVAL;
    assert_int_equal(engine_kvm.set_state(t->engine, 0, &s, &t->err), SM_ECORRUPT);
    has(t, "KVM_SET_SREGS");
    t->fake.fail_request = 0;
    t->fake.refused_msr = 0xc0000082;
    assert_int_equal(engine_kvm.set_state(t->engine, 0, &s, &t->err), SM_ECORRUPT);
    has(t, "0xc0000082");
    t->fake.refused_msr = 0;
    s.xsave[CPU_XSAVE_HEADER] = 0x80; /* AVX-512 */
    assert_int_equal(engine_kvm.set_state(t->engine, 0, &s, &t->err), SM_ECORRUPT);
    s.xsave[CPU_XSAVE_HEADER] = 3;
    s.mp = CPU_MP_COUNT;
    assert_int_equal(engine_kvm.set_state(t->engine, 0, &s, &t->err), SM_ECORRUPT);
}

static void machine_refused(void **state)
{
    struct env *t = *state;
    struct machine_state m;

    assert_int_equal(make(t), 0);
    assert_int_equal(engine_kvm.get_machine(t->engine, &m, &t->err), 0);
    assert_int_equal(m.tsc_khz, 1000000);
    assert_int_equal(engine_kvm.set_machine(t->engine, &m, &t->err), 0);
    m.tsc_khz++;
    assert_int_equal(engine_kvm.set_machine(t->engine, &m, &t->err), SM_EINVAL);
}

/* ---- the probe ---- */

/* Nothing of the guest's ever arrives; the watcher's kick must end it. The probe's engine is its
 * own, so only the signal tells. */
static int never_ends(struct kvm_fake *f)
{
    struct timespec ms100 = {.tv_nsec = 100000000};
    sigset_t set, pending;

    sigemptyset(&set);
    sigaddset(&set, KVM_KICK_SIGNAL);
    do {
        nanosleep(&ms100, NULL);
        sigpending(&pending);
    } while (!sigismember(&pending, KVM_KICK_SIGNAL));
    errno = EINTR;
    return -1;
}

static int cannot(struct kvm_fake *f)
{
    errno = EOPNOTSUPP;
    return -1;
}

static void probe_refuses(void **state)
{
    static int (*const ways[])(struct kvm_fake *) = {never_ends, cannot};
    static const char *const texts[] = {"at hardware speed", "KVM_RUN failed"};
    struct env *t = *state;
    unsigned before = open_fds();

    for (size_t i = 0; i < 2; i++) {
        t->fake.on_run = ways[i];
        assert_int_equal(kvm_probe_speed(&t->host, &t->err), SM_EENGINE);
        has(t, texts[i]);
        has(t, "--engine soft");
    }
    assert_int_equal(open_fds(), before);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(open_errors),
        T(wrong_version),
        T(missing_capability),
        T(every_call_fails),
        T(storms_while_making),
        T(cpuid_is_the_model),
        T(cpuid_gives_way),
        T(cpuid_not_possible),
        T(config_refused),
        T(storms_while_running),
        T(kicks),
        T(unknown_exits_end_the_vm),
        T(exits_say_why),
        T(run_fails),
        T(port_io),
        T(memory_io),
        T(state_refused),
        T(machine_refused),
        T(probe_refuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
