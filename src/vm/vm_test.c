// SPDX-License-Identifier: Apache-2.0
/*
 * A VM on a fake engine. Its "guest" is a list of bus accesses that the kernel file carries as its
 * only segment, so that the whole way is used: file -> kernel loader -> registers -> engine ->
 * buses -> end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <elf.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/le.h"
#include "vm/layout.h"
#include "vm/lines.h"
#include "vm/vm.h"

#define MIB (1ull << 20)
#define ENTRY 0x1000000ull

/* ---- the fake engine ---- */

enum op {
    OP_END,
    OP_STORE, /* to guest RAM */
    OP_OUT,
    OP_WRITE,
    OP_CHECK,
    OP_CHECK_MEM,
    OP_PRINT,
    OP_HALT,
    OP_SHUTDOWN,
    OP_FAIL
};

struct step {
    uint32_t op, size;
    uint64_t addr, value;
    char text[48];
};

struct engine {
    struct engine_config config;
    struct cpu_state state;
    bool have_state;
    pthread_mutex_t lock;
    pthread_cond_t kicked_cond;
    bool kicked[ENGINE_MAX_VCPUS];
    atomic_int pins[LAYOUT_GSI_COUNT];
};

static int fake_create(const struct engine_config *config, struct engine **out,
                       struct sm_error *err)
{
    *out = NULL;
    if (strcmp(config->cpu_model, "v2") != 0 && strcmp(config->cpu_model, "v3") != 0)
        return err_set(err, SM_EINVAL, "no such model");
    struct engine *e = calloc(1, sizeof *e);
    assert_non_null(e);
    e->config = *config;
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->kicked_cond, NULL);
    *out = e;
    return 0;
}

static int fake_create_fails(const struct engine_config *config, struct engine **out,
                             struct sm_error *err)
{
    *out = NULL;
    return err_set(err, SM_EENGINE, "no CPU today");
}

static void fake_destroy(struct engine *e)
{
    if (!e)
        return;
    pthread_cond_destroy(&e->kicked_cond);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

static void fake_kick(struct engine *e, unsigned vcpu)
{
    pthread_mutex_lock(&e->lock);
    e->kicked[vcpu] = true;
    pthread_cond_broadcast(&e->kicked_cond);
    pthread_mutex_unlock(&e->lock);
}

/* True if the vCPU was kicked since the last time; waits for it if asked. */
static bool take_kick(struct engine *e, unsigned vcpu, bool wait)
{
    pthread_mutex_lock(&e->lock);
    while (wait && !e->kicked[vcpu])
        pthread_cond_wait(&e->kicked_cond, &e->lock);
    bool kicked = e->kicked[vcpu];
    e->kicked[vcpu] = false;
    pthread_mutex_unlock(&e->lock);
    return kicked;
}

static int wrong(struct sm_error *err, const struct step *s, uint64_t got)
{
    return err_set(err, SM_EENGINE, "wrong value at %#llx: %#llx instead of %#llx",
                   (unsigned long long)s->addr, (unsigned long long)got,
                   (unsigned long long)s->value);
}

static int fake_step(struct engine *e, const struct step *s, enum vcpu_exit *exit,
                     struct sm_error *err)
{
    uint64_t value = 0;
    switch (s->op) {
    case OP_OUT:
        bus_write(e->config.pio, s->addr, s->size, s->value);
        return 0;
    case OP_WRITE:
        bus_write(e->config.mmio, s->addr, s->size, s->value);
        return 0;
    case OP_STORE:
        return mem_write(e->config.mem, s->addr, &s->value, s->size) == 0
                   ? 0
                   : err_set(err, SM_EENGINE, "no memory at %#llx", (unsigned long long)s->addr);
    case OP_CHECK:
        value = bus_read(e->config.mmio, s->addr, s->size);
        return value == s->value ? 0 : wrong(err, s, value);
    case OP_CHECK_MEM:
        if (mem_read(e->config.mem, s->addr, &value, s->size) != 0)
            return err_set(err, SM_EENGINE, "no memory at %#llx", (unsigned long long)s->addr);
        return value == s->value ? 0 : wrong(err, s, value);
    case OP_PRINT:
        for (const char *p = s->text; *p; p++)
            bus_write(e->config.pio, LAYOUT_COM1, 1, (uint8_t)*p);
        return 0;
    case OP_SHUTDOWN:
        *exit = VCPU_EXIT_SHUTDOWN;
        return 1;
    case OP_FAIL:
        *exit = VCPU_EXIT_FAILED;
        return err_set(err, SM_EENGINE, "the fake engine broke");
    default:
        return err_set(err, SM_EENGINE, "bad step");
    }
}

static int fake_run(struct engine *e, unsigned vcpu, enum vcpu_exit *exit, struct sm_error *err)
{
    while (!take_kick(e, vcpu, vcpu != 0)) {
        struct step s;
        if (mem_read(e->config.mem, e->state.rip, &s, sizeof s) != 0)
            return err_set(err, SM_EENGINE, "ran out of memory");
        if (s.op == OP_HALT) {
            take_kick(e, vcpu, true);
            break;
        }
        e->state.rip += sizeof s;
        int rc = fake_step(e, &s, exit, err);
        if (rc < 0)
            *exit = VCPU_EXIT_FAILED;
        if (rc)
            return rc < 0 ? rc : 0;
    }
    *exit = VCPU_EXIT_KICKED;
    return 0;
}

static void fake_irq(struct engine *e, unsigned gsi, int level)
{
    atomic_store(&e->pins[gsi], level);
}

static int fake_get_state(struct engine *e, unsigned vcpu, struct cpu_state *out,
                          struct sm_error *err)
{
    *out = e->state;
    return 0;
}

static int fake_set_state(struct engine *e, unsigned vcpu, const struct cpu_state *in,
                          struct sm_error *err)
{
    e->state = *in;
    e->have_state = true;
    return 0;
}

static const struct engine_ops fake_engine = {
    .name = "fake",
    .create = fake_create,
    .destroy = fake_destroy,
    .run = fake_run,
    .kick = fake_kick,
    .irq = fake_irq,
    .get_state = fake_get_state,
    .set_state = fake_set_state,
};
static const struct engine_ops broken_engine = {
    .name = "broken",
    .create = fake_create_fails,
    .destroy = fake_destroy,
    .run = fake_run,
    .kick = fake_kick,
    .irq = fake_irq,
    .get_state = fake_get_state,
    .set_state = fake_set_state,
};

/* ---- files ---- */

struct files {
    char dir[32], kernel[64], initramfs[64], layer[64];
};

static void write_file(const char *path, const void *a, size_t a_len, const void *b, size_t b_len)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(a, 1, a_len, f), a_len);
    assert_int_equal(fwrite(b, 1, b_len, f), b_len);
    assert_int_equal(fclose(f), 0);
}

static void make_files(struct files *f, const struct step *steps, size_t n)
{
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
              .p_filesz = n * sizeof *steps,
              .p_memsz = n * sizeof *steps},
    };
    memcpy(elf.e.e_ident, ELFMAG, SELFMAG);
    elf.e.e_ident[EI_CLASS] = ELFCLASS64;
    elf.e.e_ident[EI_DATA] = ELFDATA2LSB;
    strcpy(f->dir, "/tmp/sm-vm-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->kernel, sizeof f->kernel, "%s/kernel", f->dir);
    snprintf(f->initramfs, sizeof f->initramfs, "%s/initramfs", f->dir);
    snprintf(f->layer, sizeof f->layer, "%s/layer", f->dir);
    write_file(f->kernel, &elf, sizeof elf, steps, n * sizeof *steps);
    write_file(f->initramfs, "cpio", 4, "", 0);
    write_file(f->layer, "LAYER678", 8, "more", 4);
}

static void remove_files(struct files *f)
{
    unlink(f->kernel);
    unlink(f->initramfs);
    unlink(f->layer);
    rmdir(f->dir);
}

static struct vm_config base_config(const struct files *f)
{
    return (struct vm_config){.engine = &fake_engine,
                              .memory_bytes = 128 * MIB,
                              .vcpus = 1,
                              .kernel = f->kernel,
                              .initramfs = f->initramfs};
}

static struct vm *new_vm(const struct vm_config *config)
{
    struct vm *vm;
    struct sm_error err = {0};
    if (vm_new(config, &vm, &err) != 0)
        fail_msg("%s", err.text);
    return vm;
}

static void start(struct vm *vm)
{
    struct sm_error err = {0};
    if (vm_start(vm, &err) != 0)
        fail_msg("%s", err.text);
}

/* Run the steps on n_vcpus; returns how it ended, and the console's tail. */
static enum vm_end run_steps(const struct step *steps, size_t n, unsigned vcpus,
                             struct sm_error *err, char *console, size_t console_size)
{
    struct files f;
    enum vm_end end;
    make_files(&f, steps, n);
    struct vm_config config = base_config(&f);
    config.vcpus = vcpus;
    struct vm *vm = new_vm(&config);
    start(vm);
    assert_int_equal(vm_wait(vm, 10000, &end, err), 0);
    struct pollfd p = {.fd = vm_end_fd(vm), .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 1);
    if (console)
        vm_console_tail(vm, console, console_size);
    vm_free(vm);
    remove_files(&f);
    return end;
}

#define RUN(...)                                                                                   \
    run_steps((const struct step[]){__VA_ARGS__, {OP_END}},                                        \
              sizeof((const struct step[]){__VA_ARGS__, {OP_END}}) / sizeof(struct step), 1, &err, \
              console, sizeof console)

/* ---- tests ---- */

static void test_ends(void **state)
{
    struct sm_error err = {0};
    char console[256];
    struct step off = {OP_OUT, 1, LAYOUT_SLEEP_CONTROL, 0x20 | LAYOUT_S5_TYPE << 2};
    struct step reset = {OP_OUT, 1, LAYOUT_RESET, LAYOUT_RESET_VALUE};
    struct step halt = {OP_HALT};

    assert_int_equal(RUN(off, halt), VM_END_POWEROFF);
    assert_int_equal(RUN(reset, halt), VM_END_RESET);
    /* The first reason is the one that counts. */
    assert_int_equal(RUN(off, reset, halt), VM_END_POWEROFF);
    assert_int_equal(RUN({OP_SHUTDOWN}), VM_END_RESET);
    assert_int_equal(err.code, 0);
    assert_int_equal(RUN({OP_FAIL}), VM_END_FAILED);
    assert_int_equal(err.code, SM_EENGINE);
    assert_non_null(strstr(err.text, "the fake engine broke"));

    /* What is not a power-off: another sleep type, no enable bit, another width, status, reset
     * value. */
    err.code = 0;
    assert_int_equal(RUN({OP_OUT, 1, LAYOUT_SLEEP_CONTROL, 0x20 | 3 << 2},
                         {OP_OUT, 1, LAYOUT_SLEEP_CONTROL, LAYOUT_S5_TYPE << 2},
                         {OP_OUT, 2, LAYOUT_SLEEP_CONTROL, 0x20 | LAYOUT_S5_TYPE << 2},
                         {OP_OUT, 1, LAYOUT_SLEEP_STATUS, 0x20 | LAYOUT_S5_TYPE << 2},
                         {OP_OUT, 1, LAYOUT_RESET, 6}, {OP_FAIL}),
                     VM_END_FAILED);
}

static void test_panic(void **state)
{
    struct sm_error err = {0};
    char console[256];
    struct step reset = {OP_OUT, 1, LAYOUT_RESET, LAYOUT_RESET_VALUE};
    struct step halt = {OP_HALT};
    struct step print = {OP_PRINT, .text = "KKernel panic - not syncing: no init\r\n"};
    assert_int_equal(RUN(print, reset, halt), VM_END_PANIC);
    assert_string_equal(console, print.text);
    strcpy(print.text, "Kernel panic - not syn, all is well");
    assert_int_equal(RUN(print, reset, halt), VM_END_RESET);
}

static void on_console(void *opaque, const uint8_t *data, size_t len)
{
    char *text = opaque;
    strncat(text, (const char *)data, len);
}

static void test_console(void **state)
{
    struct files f;
    char text[256] = "", tail[8];
    struct sm_error err = {0};
    enum vm_end end;
    struct step steps[] = {{OP_PRINT, .text = "hello from ttyS0"}, {OP_SHUTDOWN}};
    make_files(&f, steps, 2);
    struct vm_config config = base_config(&f);
    config.console = on_console;
    config.console_opaque = text;
    struct vm *vm = new_vm(&config);
    start(vm);
    assert_int_equal(vm_wait(vm, -1, &end, &err), 0);
    assert_string_equal(text, "hello from ttyS0");
    assert_int_equal(vm_console_tail(vm, tail, sizeof tail), 7);
    assert_string_equal(tail, "m ttyS0");
    assert_int_equal(vm_console_tail(vm, tail, 1), 0);
    assert_string_equal(tail, "");
    vm_free(vm);
    remove_files(&f);
}

/* The devices are where the ACPI tables say, the layer's window is where its device says. */
static void test_devices(void **state)
{
    struct files f;
    struct sm_error err = {0};
    enum vm_end end;
    uint64_t rng = LAYOUT_VIRTIO_MMIO, vsock = rng + 0x1000, pmem = rng + 0x3000;
    gpa_t window = MEM_HIGH_BASE;
    struct step steps[] = {
        {OP_CHECK, 4, rng, 0x74726976},
        {OP_CHECK, 4, rng + 8, 4},
        {OP_CHECK, 4, vsock + 8, 19},
        {OP_CHECK, 8, vsock + 0x100, 3}, /* guest CID */
        {OP_CHECK, 4, pmem + 8, 27},
        {OP_CHECK, 8, pmem + 0x100, window},
        {OP_CHECK, 8, pmem + 0x108, 2 * MIB},
        {OP_CHECK, 4, pmem + 0x1000 + 8, 27},
        {OP_CHECK, 8, pmem + 0x1000 + 0x100, window + 2 * MIB},
        {OP_CHECK, 4, pmem + 0x2000, 0xffffffff}, /* nothing there */
        {OP_CHECK_MEM, 8, window, le64_get("LAYER678")},
        {OP_CHECK_MEM, 8, window + 8, le64_get("more\0\0\0\0")},
        {OP_CHECK_MEM, 8, window + 2 * MIB - 8, 0},
        {OP_CHECK_MEM, 8, window + 2 * MIB, le64_get("LAYER678")},
        {OP_CHECK_MEM, 4, LAYOUT_BOOT_PARAMS + 0x202, le32_get("HdrS")},
        {OP_CHECK_MEM, 8, LAYOUT_ACPI, le64_get("RSD PTR ")},
        {OP_CHECK_MEM, 8, LAYOUT_CMDLINE, le64_get("console=")},
        {OP_SHUTDOWN},
    };
    make_files(&f, steps, sizeof steps / sizeof steps[0]);
    const char *layers[] = {f.layer, f.layer};
    struct vm_config config = base_config(&f);
    config.layers = layers;
    config.n_layers = 2;
    struct vm *vm = new_vm(&config);
    start(vm);
    assert_int_equal(vm_wait(vm, 10000, &end, &err), 0);
    if (end != VM_END_RESET)
        fail_msg("end %d: %s", end, err.text);
    vm_free(vm);
    remove_files(&f);
}

static void test_stop(void **state)
{
    struct files f;
    struct sm_error err = {0};
    enum vm_end end;
    int fd;
    make_files(&f, &(struct step){OP_HALT}, 1);
    struct vm_config config = base_config(&f);
    config.vcpus = 3;
    struct vm *vm = new_vm(&config);
    start(vm);
    assert_int_equal(vm_start(vm, &err), SM_EINVAL);
    assert_int_equal(vm_wait(vm, 20, &end, &err), SM_ETIMEDOUT);
    assert_int_equal(end, VM_RUNNING);
    assert_int_equal(vm_wait_agent(vm, 20, &err), SM_ETIMEDOUT);
    assert_int_equal(vm_take_beacon(vm), -1);
    assert_int_equal(vm_connect(vm, 5, &fd, &err), 0); /* waits for the driver */
    close(fd);
    struct pollfd p = {.fd = vm_end_fd(vm), .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0);
    vm_stop(vm);
    vm_stop(vm);
    assert_int_equal(vm_wait(vm, 10000, &end, &err), 0);
    assert_int_equal(end, VM_END_STOPPED);
    assert_int_equal(poll(&p, 1, 0), 1);
    assert_int_equal(vm_wait_agent(vm, -1, &err), SM_EINTR);
    assert_int_equal(vm_connect(vm, 5, &fd, &err), SM_EINTR);
    vm_free(vm);

    /* Freed while it runs; stopped before it ran. */
    vm = new_vm(&config);
    start(vm);
    vm_free(vm);
    vm = new_vm(&config);
    vm_stop(vm);
    assert_int_equal(vm_wait(vm, -1, &end, &err), 0);
    assert_int_equal(end, VM_END_STOPPED);
    assert_int_equal(vm_start(vm, &err), SM_EINVAL);
    vm_free(vm);
    vm_free(NULL);
    remove_files(&f);
}

static void test_agent_never_came(void **state)
{
    static const struct {
        struct step steps[3];
        int code;
        const char *text;
    } cases[] = {
        {{{OP_PRINT, .text = "Kernel panic - not syncing: no init"}, {OP_SHUTDOWN}},
         SM_EGUEST,
         "panicked: Kernel panic - not syncing: no init"},
        {{{OP_OUT, 1, LAYOUT_SLEEP_CONTROL, 0x34}, {OP_HALT}}, SM_EGUEST, "powered itself off"},
        {{{OP_SHUTDOWN}}, SM_EGUEST, "rebooted or crashed"},
        {{{OP_FAIL}}, SM_EENGINE, "the fake engine broke"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct files f;
        struct sm_error err = {0};
        make_files(&f, cases[i].steps, 3);
        struct vm_config config = base_config(&f);
        struct vm *vm = new_vm(&config);
        start(vm);
        assert_int_equal(vm_wait_agent(vm, -1, &err), cases[i].code);
        assert_int_equal(err.code, cases[i].code);
        if (!strstr(err.text, cases[i].text))
            fail_msg("'%s' lacks '%s'", err.text, cases[i].text);
        vm_free(vm);
        remove_files(&f);
    }
}

/* The steps of a guest driver that brings vsock up and calls the agent's port on the host. */
static unsigned vsock_call(struct step *out, uint32_t host_port)
{
    const uint64_t dev = LAYOUT_VIRTIO_MMIO + 0x1000, rings = 0x100000, packet = 0x180000;
    unsigned n = 0;
    out[n++] = (struct step){OP_WRITE, 4, dev + 0x070, 0};
    out[n++] = (struct step){OP_WRITE, 4, dev + 0x070, 3};
    out[n++] = (struct step){OP_WRITE, 4, dev + 0x024, 1};
    out[n++] = (struct step){OP_WRITE, 4, dev + 0x020, 1}; /* VIRTIO_F_VERSION_1 */
    out[n++] = (struct step){OP_WRITE, 4, dev + 0x070, 11};
    for (uint64_t q = 0; q < 3; q++) {
        out[n++] = (struct step){OP_WRITE, 4, dev + 0x030, q};
        out[n++] = (struct step){OP_WRITE, 4, dev + 0x038, 8};
        out[n++] = (struct step){OP_WRITE, 4, dev + 0x080, rings + q * 0x3000};
        out[n++] = (struct step){OP_WRITE, 4, dev + 0x090, rings + q * 0x3000 + 0x1000};
        out[n++] = (struct step){OP_WRITE, 4, dev + 0x0a0, rings + q * 0x3000 + 0x2000};
        out[n++] = (struct step){OP_WRITE, 4, dev + 0x044, 1};
    }
    out[n++] = (struct step){OP_WRITE, 4, dev + 0x070, 15};
    /* struct virtio_vsock_hdr: a connection request from guest port 77. */
    out[n++] = (struct step){OP_STORE, 8, packet, 3};     /* source CID */
    out[n++] = (struct step){OP_STORE, 8, packet + 8, 2}; /* destination CID */
    out[n++] = (struct step){OP_STORE, 4, packet + 16, 77};
    out[n++] = (struct step){OP_STORE, 4, packet + 20, host_port};
    out[n++] = (struct step){OP_STORE, 4, packet + 28, 1 | 1 << 16}; /* stream, request */
    out[n++] = (struct step){OP_STORE, 4, packet + 36, 65536};       /* buffer */
    out[n++] = (struct step){OP_STORE, 8, rings + 0x3000, packet};
    out[n++] = (struct step){OP_STORE, 4, rings + 0x3000 + 8, 44};
    out[n++] = (struct step){OP_STORE, 2, rings + 0x4000 + 2, 1}; /* available */
    out[n++] = (struct step){OP_WRITE, 4, dev + 0x050, 1};
    return n;
}

static void test_agent_calls(void **state)
{
    for (uint32_t port = 1024; port <= 1025; port++) {
        struct files f;
        struct sm_error err = {0};
        struct step steps[64] = {{OP_END}};
        unsigned n = vsock_call(steps, port);
        steps[n++] = (struct step){OP_HALT};
        make_files(&f, steps, n);
        struct vm_config config = base_config(&f);
        struct vm *vm = new_vm(&config);
        start(vm);
        if (port == VM_AGENT_PORT) {
            if (vm_wait_agent(vm, 10000, &err) != 0)
                fail_msg("%s", err.text);
            int fd = vm_take_beacon(vm);
            assert_true(fd >= 0);
            assert_int_equal(vm_take_beacon(vm), -1);
            close(fd);
            assert_int_equal(vm_wait_agent(vm, 0, &err), 0);
        } else {
            assert_int_equal(vm_wait_agent(vm, 200, &err), SM_ETIMEDOUT);
        }
        vm_free(vm);
        /* Freed with the call untaken. */
        config.agent_port = port;
        vm = new_vm(&config);
        start(vm);
        assert_int_equal(vm_wait_agent(vm, 10000, &err), 0);
        vm_free(vm);
        remove_files(&f);
    }
}

static void test_shared_lines(void **state)
{
    struct lines l;
    struct irq a, b, c;
    struct engine e = {0};
    lines_init(&l);
    assert_int_equal(lines_add(&l, 7, &a, NULL), 0);
    assert_int_equal(lines_add(&l, 7, &b, NULL), 0);
    assert_int_equal(lines_add(&l, 8, &c, NULL), 0);
    assert_int_equal(lines_add(&l, LAYOUT_GSI_COUNT, &c, NULL), SM_EINVAL);
    lines_connect(&l, &fake_engine, &e);
    irq_set(&a, 1);
    assert_int_equal(e.pins[7], 1);
    irq_set(&b, 1);
    irq_set(&a, 0);
    irq_set(&a, 0); /* said twice, counted once */
    assert_int_equal(e.pins[7], 1);
    assert_int_equal(e.pins[8], 0);
    irq_set(&b, 0);
    assert_int_equal(e.pins[7], 0);
    irq_set(&c, 1);
    assert_int_equal(e.pins[8], 1);
    lines_fini(&l);
}

static void test_two_vms(void **state)
{
    struct files f[2];
    struct vm *vm[2];
    char text[2][256] = {"", ""};
    enum vm_end end;
    struct sm_error err = {0};
    for (int i = 0; i < 2; i++) {
        struct step steps[] = {{OP_PRINT, .text = "I am 0"}, {OP_HALT}, {OP_HALT}};
        steps[0].text[5] = (char)('0' + i);
        if (i == 0)
            steps[1].op = OP_SHUTDOWN;
        make_files(&f[i], steps, 3);
        struct vm_config config = base_config(&f[i]);
        config.console = on_console;
        config.console_opaque = text[i];
        vm[i] = new_vm(&config);
    }
    start(vm[1]);
    start(vm[0]);
    assert_int_equal(vm_wait(vm[0], 10000, &end, &err), 0);
    assert_int_equal(end, VM_END_RESET);
    assert_int_equal(vm_wait(vm[1], 20, &end, &err), SM_ETIMEDOUT);
    vm_free(vm[0]);
    vm_stop(vm[1]);
    assert_int_equal(vm_wait(vm[1], 10000, &end, &err), 0);
    assert_int_equal(end, VM_END_STOPPED);
    vm_free(vm[1]);
    assert_string_equal(text[0], "I am 0");
    assert_string_equal(text[1], "I am 1");
    remove_files(&f[0]);
    remove_files(&f[1]);
}

static void refused(const struct vm_config *config, int code, const char *text)
{
    struct vm *vm = (struct vm *)config;
    struct sm_error err = {0};
    int rc = vm_new(config, &vm, &err);
    if (rc != code || err.code != code || vm != NULL || !strstr(err.text, text))
        fail_msg("rc %d: '%s', wanted %d: '%s'", rc, err.text, code, text);
}

static void test_refused(void **state)
{
    struct files f;
    struct vm_config c;
    make_files(&f, &(struct step){OP_HALT}, 1);
    static const uint64_t sizes[] = {0, 4096, VM_MEMORY_MIN - 2 * MIB, 1ull << 60, ~0ull};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        c = base_config(&f);
        c.memory_bytes = sizes[i];
        refused(&c, SM_EINVAL, "out of range: 96 MiB to");
    }
    c = base_config(&f);
    c.memory_bytes += 4096;
    refused(&c, SM_EINVAL, "multiple of 2 MiB");
    c = base_config(&f);
    c.vcpus = 0;
    refused(&c, SM_EINVAL, "1 to 8");
    c.vcpus = ENGINE_MAX_VCPUS + 1;
    refused(&c, SM_EINVAL, "1 to 8");
    c = base_config(&f);
    c.n_layers = VM_MAX_LAYERS + 1;
    refused(&c, SM_EINVAL, "65 layers");
    c = base_config(&f);
    c.engine = &broken_engine;
    refused(&c, SM_EENGINE, "no CPU today");
    c = base_config(&f);
    c.kernel = "/etc/passwd";
    refused(&c, SM_EINVAL, "kernel /etc/passwd: neither");
    c = base_config(&f);
    c.initramfs = "/nonexistent/i";
    refused(&c, SM_ENOTFOUND, "/nonexistent/i");

    static const struct {
        const char *path;
        int code;
    } layers[] = {{"/nonexistent/l", SM_ENOTFOUND}, {"/", SM_EINVAL}, {"/dev/null", SM_EINVAL}};
    for (size_t i = 0; i < 3; i++) {
        const char *names[] = {f.layer, layers[i].path};
        c = base_config(&f);
        c.layers = names;
        c.n_layers = 2;
        refused(&c, layers[i].code, layers[i].path);
    }
    remove_files(&f);
}

static void test_many_layers(void **state)
{
    struct files f;
    const char *layers[VM_MAX_LAYERS];
    make_files(&f, &(struct step){OP_SHUTDOWN}, 1);
    for (int i = 0; i < VM_MAX_LAYERS; i++)
        layers[i] = f.layer;
    struct vm_config config = base_config(&f);
    config.layers = layers;
    config.n_layers = VM_MAX_LAYERS;
    struct vm *vm = new_vm(&config);
    enum vm_end end;
    start(vm);
    assert_int_equal(vm_wait(vm, 10000, &end, NULL), 0);
    assert_int_equal(end, VM_END_RESET);
    vm_free(vm);
    remove_files(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ends),         cmocka_unit_test(test_panic),
        cmocka_unit_test(test_console),      cmocka_unit_test(test_devices),
        cmocka_unit_test(test_stop),         cmocka_unit_test(test_agent_never_came),
        cmocka_unit_test(test_two_vms),      cmocka_unit_test(test_agent_calls),
        cmocka_unit_test(test_shared_lines), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_many_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
