/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What it costs to have many VMs: vms [--rounds N] [--vms N] [IMAGE]
 * Uses the library as any application does (public header, shared library), with a store of its own
 * that is removed at the end. Times are of this host as it is: run it on an idle one. Memory is
 * what this process and its descendants have for themselves alone (Private_Clean + Private_Dirty of
 * smaps_rollup) beyond what they had before the VMs. Lines on standard output:
 *   vms row NAME: MEDIAN p99 P99 UNIT (bar: BAR)
 */
#include <dirent.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <pthread.h>

#include <supermachine.h>

#define WARM 4          /* VMs of the pool */
#define STARTERS_MAX 64 /* threads that start VMs */
#define DIRTY_MIB 64u   /* written by a VM before it is forked */
#define CLONES 4u
#define SETTLE_MS 2000 /* until a restored guest has nothing left to do */

struct bench {
    char home[64];
    sm_store *store;
    sm_image *image;
    unsigned rounds, vms;
};

static void must(int rc, const char *what, const struct sm_error *err)
{
    if (!rc)
        return;
    fprintf(stderr, "vms: %s: %s\n", what, err->text);
    exit(1);
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void pause_ms(unsigned ms)
{
    nanosleep(&(struct timespec){ms / 1000, (long)(ms % 1000) * 1000000}, NULL);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(const char *name, double *ms, unsigned n, const char *bar)
{
    qsort(ms, n, sizeof *ms, by_value);
    printf("vms row %-44s median %7.1f ms   p99 %7.1f ms   n %u%s%s\n", name, ms[n / 2],
           ms[n - 1 - n / 100], n, bar ? "   bar: median " : "", bar ? bar : "");
    fflush(stdout);
}

static void run_true(sm_vm *vm)
{
    const char *const argv[] = {"true", NULL};
    struct sm_exec_spec spec = SM_EXEC_SPEC_INIT;
    struct sm_error err = {0};
    struct sm_output out;
    spec.argv = argv;
    must(sm_exec_output(vm, &spec, 0, 60000, &out, &err), "true", &err);
    if (out.outcome.code != 0) {
        fprintf(stderr, "vms: true ended with %d\n", out.outcome.code);
        exit(1);
    }
    sm_output_fini(&out);
}

static sm_vm *start(struct bench *b)
{
    struct sm_error err = {0};
    sm_vm *vm;
    must(sm_vm_start(b->image, NULL, &vm, &err), "starting a VM", &err);
    return vm;
}

/* sm_vm_start returns when the agent has answered; then the first command; then the second. */
static void restores(struct bench *b, double *ms)
{
    double *first = calloc(b->rounds, sizeof *first), *second = calloc(b->rounds, sizeof *second);
    for (unsigned i = 0; i < b->rounds; i++) {
        double t0 = now_ms();
        sm_vm *vm = start(b);
        double t1 = now_ms();
        run_true(vm);
        double t2 = now_ms();
        run_true(vm);
        second[i] = now_ms() - t2;
        first[i] = t2 - t1;
        ms[i] = t1 - t0;
        sm_vm_free(vm);
    }
    report("restore to agent's answer", ms, b->rounds, NULL);
    report("first exec of `true` in it", first, b->rounds, NULL);
    report("second", second, b->rounds, NULL);
    free(first);
    free(second);
}

static void wait_ready(sm_pool *pool, uint32_t n)
{
    struct sm_pool_stats s;
    do {
        pause_ms(1);
        sm_pool_stats(pool, &s);
    } while (s.ready < n || s.starting);
}

static void warm_pool(struct bench *b, double *ms)
{
    struct sm_pool_config config = SM_POOL_CONFIG_INIT;
    struct sm_error err = {0};
    sm_pool *pool;
    config.min = config.max = WARM;
    must(sm_pool_new(b->image, &config, &pool, &err), "making a pool", &err);
    for (unsigned i = 0; i < b->rounds; i++) {
        sm_vm *vm;
        wait_ready(pool, WARM);
        double t0 = now_ms();
        must(sm_pool_acquire(pool, &vm, &err), "acquiring a VM", &err);
        run_true(vm);
        ms[i] = now_ms() - t0;
        sm_pool_release(pool, vm, NULL);
    }
    sm_pool_free(pool);
    report("acquire from a warm pool to exec result", ms, b->rounds, "40 ms");
}

struct starter {
    pthread_t thread;
    struct bench *bench;
    sm_vm **vms;
    unsigned n;
    bool command;
};

static void *start_some(void *opaque)
{
    struct starter *s = opaque;
    for (unsigned i = 0; i < s->n; i++) {
        s->vms[i] = start(s->bench);
        if (s->command)
            run_true(s->vms[i]);
    }
    return NULL;
}

/* n VMs at once, started by as many threads as the host has processors. */
static sm_vm **start_many(struct bench *b, unsigned n, bool command)
{
    struct starter s[STARTERS_MAX];
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned threads = processors < 1              ? 1
                       : processors > STARTERS_MAX ? STARTERS_MAX
                                                   : (unsigned)processors;
    sm_vm **vms = calloc(n, sizeof(sm_vm *));
    for (unsigned i = 0; i < threads; i++) {
        unsigned from = n * i / threads;
        s[i] = (struct starter){
            .bench = b, .vms = vms + from, .n = n * (i + 1) / threads - from, .command = command};
        pthread_create(&s[i].thread, NULL, start_some, &s[i]);
    }
    for (unsigned i = 0; i < threads; i++)
        pthread_join(s[i].thread, NULL);
    return vms;
}

static void free_many(sm_vm **vms, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        sm_vm_free(vms[i]);
    free(vms);
}

static void many(struct bench *b)
{
    double t0 = now_ms();
    sm_vm **vms = start_many(b, b->vms, true);
    double taken = now_ms() - t0;
    char name[64];
    snprintf(name, sizeof name, "%u VMs started, each ran `true`", b->vms);
    printf("vms row %-44s %14.0f ms\n", name, taken);
    fflush(stdout);
    free_many(vms, b->vms);
}

/* Bytes that a process has for itself alone; 0 if it is gone. */
static uint64_t private_of(const char *pid)
{
    char path[64], line[256];
    unsigned long long kib, sum = 0;
    snprintf(path, sizeof path, "/proc/%.20s/smaps_rollup", pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "Private_Clean: %llu", &kib) == 1 ||
            sscanf(line, "Private_Dirty: %llu", &kib) == 1)
            sum += kib;
    if (f)
        fclose(f);
    return sum << 10;
}

static int parent_of(const char *pid)
{
    char path[64], line[512], *p;
    int parent = 0;
    snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    line[fread(line, 1, sizeof line - 1, f)] = 0;
    fclose(f);
    p = strrchr(line, ')');
    return p && sscanf(p + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

/* This process and its children: what a VM has is here or there. */
static uint64_t private_bytes(void)
{
    uint64_t sum = private_of("self");
    DIR *proc = opendir("/proc");
    for (struct dirent *d; proc && (d = readdir(proc));)
        if (d->d_name[0] >= '1' && d->d_name[0] <= '9' && parent_of(d->d_name) == getpid())
            sum += private_of(d->d_name);
    if (proc)
        closedir(proc);
    return sum;
}

static void idle_memory(struct bench *b)
{
    unsigned n = b->vms < 50 ? b->vms : 50;
    sm_vm_free(start(b)); /* what the process itself needs for its first one */
    uint64_t before = private_bytes();
    sm_vm **vms = start_many(b, n, false);
    pause_ms(SETTLE_MS);
    double idle = (double)(private_bytes() - before) / n / (1 << 20);
    for (unsigned i = 0; i < n; i++)
        run_true(vms[i]);
    pause_ms(SETTLE_MS);
    double used = (double)(private_bytes() - before) / n / (1 << 20);
    free_many(vms, n);
    printf("vms row %-44s %14.2f MiB   n %u   bar: 6 MiB\n", "private memory per idle restored VM",
           idle, n);
    printf("vms row %-44s %14.2f MiB\n", "the same after one `true`", used);
    fflush(stdout);
}

static void run_shell(sm_vm *vm, const char *text)
{
    const char *const argv[] = {"sh", "-c", text, NULL};
    struct sm_exec_spec spec = SM_EXEC_SPEC_INIT;
    struct sm_error err = {0};
    struct sm_output out;
    spec.argv = argv;
    must(sm_exec_output(vm, &spec, 0, 600000, &out, &err), text, &err);
    if (out.outcome.code != 0) {
        fprintf(stderr, "vms: %s ended with %d\n", text, out.outcome.code);
        exit(1);
    }
    sm_output_fini(&out);
}

/* Clones of a VM that has written DIRTY_MIB since it was started, all of which are started and have
 * answered when sm_vm_fork returns. */
static void forks(struct bench *b, double *ms)
{
    unsigned n = b->rounds < 20 ? b->rounds : 20;
    double *pause = calloc(n, sizeof *pause);
    char text[96], name[64];
    sm_vm *vm = start(b);
    snprintf(text, sizeof text, "head -c %u </dev/urandom >/dev/shm/x", DIRTY_MIB << 20);
    run_shell(vm, text);
    for (unsigned i = 0; i < n; i++) {
        struct sm_snapshot_info info;
        struct sm_error err = {0};
        sm_vm *clones[CLONES];
        double t0 = now_ms();
        must(sm_vm_fork(vm, NULL, CLONES, clones, &info, &err), "forking a VM", &err);
        ms[i] = (now_ms() - t0) / CLONES;
        pause[i] = (double)info.pause_ns / 1e6;
        for (unsigned k = 0; k < CLONES; k++)
            sm_vm_free(clones[k]);
    }
    snprintf(name, sizeof name, "pause of a fork, %u of 256 MiB dirty", DIRTY_MIB);
    report(name, pause, n, "150 ms");
    snprintf(name, sizeof name, "fork into %u, per clone that answers", CLONES);
    report(name, ms, n, NULL);
    sm_vm_free(vm);
    free(pause);
}

static void set_up(struct bench *b, const char *ref)
{
    struct sm_store_config config = SM_STORE_CONFIG_INIT;
    struct sm_error err = {0};
    char *path;
    strcpy(b->home, "/tmp/sm-bench-XXXXXX");
    if (!mkdtemp(b->home)) {
        perror("vms: mkdtemp");
        exit(1);
    }
    config.path = b->home;
    config.data_dir = getenv("SM_BUILD_DIR");
    must(sm_store_open(&config, &b->store, &err), "the store", &err);
    must(sm_image_from_oci(b->store, ref, &b->image, &err), ref, &err);
    must(sm_image_bake(b->image, NULL, &path, &err), "bake", &err);
    sm_free(path);
    sm_vm_free(start(b)); /* the snapshot's pages are in the host's cache now */
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"rounds", required_argument, NULL, 'r'}, {"vms", required_argument, NULL, 'n'}, {0}};
    struct bench b = {.rounds = 200, .vms = 100};
    char command[128];
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'r')
            b.rounds = (unsigned)atoi(optarg);
        else if (c == 'n')
            b.vms = (unsigned)atoi(optarg);
        else
            return 2;
    }
    if (b.rounds < 1 || b.vms < 1)
        return 2;
    double *ms = calloc(b.rounds, sizeof *ms);
    set_up(&b, optind < argc ? argv[optind] : "busybox");
    restores(&b, ms);
    warm_pool(&b, ms);
    many(&b);
    idle_memory(&b);
    forks(&b, ms);
    free(ms);
    sm_image_free(b.image);
    sm_store_free(b.store);
    snprintf(command, sizeof command, "rm -rf %s", b.home);
    return system(command) != 0;
}
