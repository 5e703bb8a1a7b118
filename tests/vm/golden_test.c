// SPDX-License-Identifier: Apache-2.0
/*
 * A snapshot that an earlier version has saved, and that this one has to restore. FOLDER is
 * golden/N, with manifest.json, state and disk0, if it has one, as they were saved, and of ram what
 * its digest is over: the pages that are not zeros, each with its number before it (u64).
 *
 *   golden_test FOLDER          restore it; its guest must go on counting
 *   golden_test --make FOLDER   how they are made, by the code of today: only into a new folder,
 *                               when the format or a section's version has changed
 *
 * The guest is that of tiny_vm.c as it was then: what it does is in its memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/le.h"
#include "cpu/model.h"
#include "tiny_vm.h"
#include "vm/delta.h"

#define PAGE 4096u
#define ROUNDS 50
#define PATIENCE_MS 60000
#define MARK "on the disk"
#define MARK_AT 40000

struct golden {
    const char *kept;
    struct tiny_vm tiny; /* a kernel, a layer and a disk for its devices */
    atomic_uint rounds;  /* on the console */
    struct vm *vm;
    struct buf state;
};

static void path_in(char path[512], const char *dir, const char *name)
{
    snprintf(path, 512, "%s/%s", dir, name);
}

static void on_console(void *opaque, const uint8_t *data, size_t len)
{
    struct golden *g = opaque;
    for (size_t i = 0; i < len; i++)
        atomic_fetch_add(&g->rounds, data[i] == '!');
}

static struct vm_config config_of(struct golden *g)
{
    struct vm_config config = tiny_vm_config(&g->tiny);
    config.cpu = "v2"; /* which any host has */
    config.console = on_console;
    config.console_opaque = g;
    return config;
}

static void run_rounds(struct golden *g)
{
    struct sm_error err = {0};
    enum vm_end end;
    atomic_store(&g->rounds, 0);
    if (vm_start(g->vm, &err) != 0)
        fail_msg("%s", err.text);
    for (int ms = 0; atomic_load(&g->rounds) < ROUNDS; ms++)
        if (ms == PATIENCE_MS || vm_wait(g->vm, 1, &end, &err) == 0)
            fail_msg("the guest does not go on: %u rounds", atomic_load(&g->rounds));
}

static uint64_t number_at(int fd, uint64_t offset)
{
    uint8_t bytes[8];
    assert_int_equal(pread(fd, bytes, sizeof bytes, (off_t)offset), sizeof bytes);
    return le64_get(bytes);
}

/* Of the VM as it is now: what it saves lies over the memory that it was started from. disk: an
 * empty file for its disk, or -1. */
static uint64_t counter_now(struct golden *g, int disk)
{
    struct delta *d = malloc(sizeof *d);
    struct sm_error err = {0};
    uint64_t pause_ns, at = DELTA_HEADER_SIZE, page = TINY_COUNTER / PAGE, counter = 0;
    int ram = memfd_create("ram", MFD_CLOEXEC);
    const struct vm_files files = {.ram = ram, .disks = &disk, .n_disks = disk >= 0};
    assert_non_null(d);
    assert_int_equal(vm_capture(g->vm, &files, &g->state, &pause_ns, &err), 0);
    assert_int_equal(delta_read(d, ram, TINY_MEMORY, &err), 0);
    for (unsigned i = 0; i < d->n; i++) {
        const struct delta_run *run = &d->runs[i];
        if (page - run->first < run->pages)
            counter = number_at(ram, at + (page - run->first) * PAGE + TINY_COUNTER % PAGE);
        at += run->pages * PAGE;
    }
    close(ram);
    free(d);
    return counter;
}

/* ---- making one ---- */

static int capture(void *opaque, const struct vm_files *files, struct sm_error *err)
{
    struct golden *g = opaque;
    uint64_t pause_ns;
    return vm_capture(g->vm, files, &g->state, &pause_ns, err);
}

static int save_state(void *opaque, int fd, const uint8_t digest[STATE_DIGEST_SIZE],
                      struct sm_error *err)
{
    struct golden *g = opaque;
    state_bind(&g->state, digest);
    return io_write_full(fd, g->state.data, g->state.len) ? err_sys(err, "cannot write the state")
                                                          : 0;
}

/* ram becomes pages. */
static void keep_pages(const char *dir)
{
    static const uint8_t zeros[PAGE];
    char ram[512], pages[512];
    uint8_t page[8 + PAGE];
    path_in(ram, dir, "ram");
    path_in(pages, dir, "pages");
    FILE *from = fopen(ram, "rbe"), *to = fopen(pages, "wbe");
    assert_true(from && to);
    for (uint64_t n = 0; fread(page + 8, PAGE, 1, from) == 1; n++) {
        le64_put(page, n);
        if (memcmp(page + 8, zeros, PAGE) != 0)
            assert_int_equal(fwrite(page, sizeof page, 1, to), 1);
    }
    assert_int_equal(fclose(to), 0);
    fclose(from);
    unlink(ram);
}

static void make(void **state)
{
    struct golden *g = *state;
    const struct vm_config config = config_of(g);
    const struct snapshot_source source = {
        .capture = capture, .state = save_state, .opaque = g, .base_fd = -1};
    char id[DIGEST_STR_SIZE];
    const char *ids[] = {id};
    struct sm_error err = {0};
    struct snapshot *s;
    hash_bytes("layer", 5, id);
    json_t *document = json_pack("{s:s}", "what", "the snapshot of tests/vm/golden_test.c");
    assert_int_equal(pwrite(g->tiny.disk_fd, MARK, sizeof MARK, MARK_AT), sizeof MARK);
    assert_int_equal(snapshot_describe(&config, ids, document, &s, &err), 0);
    assert_int_equal(snapshot_describe_disks(s, &config, &err), 0);
    assert_int_equal(mkdir(g->kept, 0755), 0);
    assert_int_equal(vm_new(&config, &g->vm, &err), 0);
    run_rounds(g);
    if (snapshot_save(s, &source, g->kept, &err) != 0)
        fail_msg("%s", err.text);
    vm_free(g->vm);
    snapshot_free(s);
    keep_pages(g->kept);
}

/* ---- restoring it ---- */

static void copy_file(const char *from, const char *to, const char *name)
{
    char path[512];
    struct buf bytes = {0};
    struct sm_error err = {0};
    path_in(path, from, name);
    if (io_slurp(path, 1u << 20, &bytes, &err) != 0)
        fail_msg("%s", err.text);
    path_in(path, to, name);
    FILE *f = fopen(path, "wbe");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes.data, bytes.len, 1, f), 1);
    assert_int_equal(fclose(f), 0);
    buf_fini(&bytes);
}

static void lay_pages(const char *from, const char *to)
{
    char path[512];
    uint8_t page[8 + PAGE];
    path_in(path, from, "pages");
    FILE *pages = fopen(path, "rbe");
    path_in(path, to, "ram");
    int ram = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(pages && ram >= 0);
    assert_int_equal(ftruncate(ram, (off_t)TINY_MEMORY), 0);
    while (fread(page, sizeof page, 1, pages) == 1)
        assert_int_equal(pwrite(ram, page + 8, PAGE, (off_t)(le64_get(page) * PAGE)), PAGE);
    assert_true(feof(pages));
    fclose(pages);
    close(ram);
}

/* As it was in a store, all of it verified. */
static struct snapshot *open_kept(struct golden *g)
{
    char dir[] = "/tmp/sm-golden-XXXXXX", path[512];
    struct sm_error err = {0};
    struct snapshot *s = NULL;
    assert_non_null(mkdtemp(dir));
    copy_file(g->kept, dir, "manifest.json");
    copy_file(g->kept, dir, "state");
    path_in(path, g->kept, "disk0");
    if (access(path, F_OK) == 0)
        copy_file(g->kept, dir, "disk0");
    lay_pages(g->kept, dir);
    int rc = snapshot_open(dir, true, &s, &err);
    for (unsigned i = 0; snapshot_names[i]; i++) {
        path_in(path, dir, snapshot_names[i]);
        unlink(path);
    }
    rmdir(dir);
    if (rc)
        fail_msg("%s", err.text);
    /* Its guest does nothing that AMD's and Intel's processors do in different ways. */
    snprintf(s->cpu_vendor, sizeof s->cpu_vendor, "%s", model_host_vendor());
    return s;
}

static void test_sections(void **state)
{
    static const char *const names[] = {"machine", "cpu0",  "uart",  "mmio0", "mmio1", "mmio2",
                                        "mmio3",   "mmio4", "vsock", "pmem0", "blk0"};
    struct snapshot *s = open_kept(*state);
    struct tiny_section found[TINY_SECTIONS_MAX];
    assert_int_equal(tiny_state_sections(&s->state, found), sizeof names / sizeof names[0]);
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_string_equal(found[i].name, names[i]);
    assert_int_equal(s->memory_bytes, TINY_MEMORY);
    assert_int_equal(s->vcpus, 1);
    assert_string_equal(s->cpu_model, "v2");
    assert_int_equal(s->n_volumes + s->n_disks, 1);
    snapshot_free(s);
}

/* A view of the snapshot's disk. */
static struct vm_volume lay_over(const struct snapshot *s)
{
    int fd = memfd_create("view", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, (off_t)s->disks[0].bytes), 0);
    return (struct vm_volume){.fd = fd, .over = true, .base_fd = s->disks[0].fd, .name = "golden"};
}

static void test_goes_on(void **state)
{
    struct golden *g = *state;
    struct vm_config config = config_of(g);
    struct snapshot *s = open_kept(g);
    struct vm_volume view = {.fd = -1};
    int disk = s->n_disks ? memfd_create("disk", MFD_CLOEXEC) : -1;
    char mark[sizeof MARK] = "";
    struct sm_error err = {0};
    uint64_t from = number_at(s->ram_fd, TINY_COUNTER);
    config.snapshot = s;
    config.kernel = NULL; /* it is in memory */
    if (s->n_disks) {
        view = lay_over(s);
        config.volumes = &view;
    }
    assert_true(from >= ROUNDS);
    if (vm_new(&config, &g->vm, &err) != 0)
        fail_msg("%s", err.text);
    run_rounds(g);
    uint64_t now = counter_now(g, disk);
    print_message("it had counted to %llu, and went on to %llu\n", (unsigned long long)from,
                  (unsigned long long)now);
    assert_in_range(now, from + ROUNDS - 1, from + 1000000000);
    assert_int_equal(number_at(s->ram_fd, TINY_COUNTER), from); /* the snapshot is as it was */
    if (disk >= 0) {
        assert_int_equal(pread(disk, mark, sizeof mark, MARK_AT), sizeof mark);
        assert_string_equal(mark, MARK);
        close(disk);
    }
    vm_free(g->vm);
    snapshot_free(s);
    if (view.fd >= 0)
        close(view.fd);
}

static int set_up(void **state)
{
    struct golden *g = *state;
    tiny_vm_open(&g->tiny);
    return 0;
}

static int tear_down(void **state)
{
    struct golden *g = *state;
    tiny_vm_close(&g->tiny);
    buf_fini(&g->state);
    return 0;
}

int main(int argc, char **argv)
{
    bool making = argc == 3 && strcmp(argv[1], "--make") == 0;
    struct golden g = {.kept = argv[argc - 1]};
    const struct CMUnitTest recipe[] = {cmocka_unit_test_prestate(make, &g)};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_sections, &g),
        cmocka_unit_test_prestate(test_goes_on, &g),
    };
    void *state = &g;
    if (argc < 2 || set_up(&state) != 0)
        return 2;
    int failed = making ? cmocka_run_group_tests(recipe, NULL, NULL)
                        : cmocka_run_group_tests(tests, NULL, NULL);
    tear_down(&state);
    return failed;
}
