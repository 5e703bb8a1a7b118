/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much memory does one more VM take? density IMAGE [N [FILE]]
 *
 * IMAGE has a large file, /data/blob (examples/density-image makes one with umoci). For each of two
 * ways to start - from one snapshot, and booted cold from the same layers - N VMs are started one
 * after the other; each reads the whole blob and stays. After each, this host's memory is read:
 *
 *   pss      sum of the proportional shares of this process and all below it (the VMs' own): a page
 *            that four of them map counts a quarter in each, so this is what all of them take
 *   private  pages that only one of them maps: what it would give back by ending
 *   cache    pages of the store's layers and snapshots in the page cache: once for all
 *
 * A table goes to standard output, the same as tab-separated numbers to FILE, for density-plot.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <supermachine.h>

struct memory {
    long pss, own, cached; /* KiB */
};

static void must(int rc, const char *what, const struct sm_error *err)
{
    if (rc) {
        fprintf(stderr, "density: %s: %s\n", what, err->text);
        exit(1);
    }
}

/* Parent of a process; 0 when it has gone. */
static int parent_of(int pid)
{
    char path[64], line[512];
    int parent = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (f && fgets(line, sizeof line, f) && strrchr(line, ')'))
        sscanf(strrchr(line, ')') + 1, " %*c %d", &parent);
    if (f)
        fclose(f);
    return parent;
}

static int is_ours(int pid)
{
    int me = getpid();
    while (pid > 1 && pid != me)
        pid = parent_of(pid);
    return pid == me;
}

static void add_process(int pid, struct memory *m)
{
    char path[64], line[256];
    long kib;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "Pss: %ld kB", &kib) == 1)
            m->pss += kib;
        else if (sscanf(line, "Private_Clean: %ld kB", &kib) == 1 ||
                 sscanf(line, "Private_Dirty: %ld kB", &kib) == 1)
            m->own += kib;
    }
    if (f)
        fclose(f);
}

/* KiB of a file that are in the page cache. */
static long cached_of(int fd, size_t size)
{
    size_t pages = (size + 4095) / 4096;
    long n = 0;
    unsigned char *in = malloc(pages ? pages : 1);
    void *p = size ? mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (in && p != MAP_FAILED && mincore(p, size, in) == 0)
        for (size_t i = 0; i < pages; i++)
            n += in[i] & 1;
    if (p != MAP_FAILED)
        munmap(p, size);
    free(in);
    return n * 4;
}

/* The same of all files in and below a folder. */
static long cached_below(const char *path)
{
    long kib = 0;
    struct dirent *e;
    struct stat st;
    DIR *d = opendir(path);
    while (d && (e = readdir(d))) {
        char name[4096];
        snprintf(name, sizeof name, "%.3800s/%s", path, e->d_name);
        int fd = e->d_name[0] == '.' ? -1 : open(name, O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && fstat(fd, &st) == 0)
            kib += S_ISDIR(st.st_mode) ? cached_below(name) : cached_of(fd, (size_t)st.st_size);
        if (fd >= 0)
            close(fd);
    }
    if (d)
        closedir(d);
    return kib;
}

static struct memory measure(const char *store)
{
    struct memory m = {0};
    struct dirent *e;
    DIR *d = opendir("/proc");
    while (d && (e = readdir(d))) {
        int pid = atoi(e->d_name);
        if (pid > 0 && is_ours(pid))
            add_process(pid, &m);
    }
    if (d)
        closedir(d);
    char path[4096];
    snprintf(path, sizeof path, "%.4000s/layers", store);
    m.cached = cached_below(path);
    snprintf(path, sizeof path, "%.4000s/snapshots", store);
    m.cached += cached_below(path);
    return m;
}

/* A VM that has read the blob. */
static sm_vm *start(sm_image *image, const struct sm_vm_config *config)
{
    static const char *const argv[] = {"sh", "-c", "cat /data/blob | wc -c", NULL};
    struct sm_exec_spec spec = SM_EXEC_SPEC_INIT;
    struct sm_output out;
    struct sm_error err = {0};
    sm_vm *vm;
    spec.argv = argv;
    must(sm_vm_start(image, config, &vm, &err), "start", &err);
    must(sm_exec_output(vm, &spec, 0, 600000, &out, &err), "read the blob", &err);
    if (out.outcome.code != 0 || atol(out.out) < 1 << 20) {
        fprintf(stderr, "density: the guest cannot read /data/blob: %s\n", out.err);
        exit(1);
    }
    sm_output_fini(&out);
    return vm;
}

static double mib(long kib)
{
    return (double)kib / 1024;
}

static void scenario(const char *store, sm_image *image, uint32_t snapshots, const char *name,
                     int n, FILE *file)
{
    struct sm_vm_config config = SM_VM_CONFIG_INIT;
    struct sm_error err = {0};
    sm_vm **vms = calloc((size_t)n, sizeof(sm_vm *));
    struct memory second = {0}, last = {0};
    config.snapshots = snapshots;
    if (!vms)
        exit(1);
    if (snapshots == SM_SNAPSHOTS_AUTO) { /* not part of what is measured */
        char *path;
        must(sm_image_bake(image, NULL, &path, &err), "snapshot", &err);
        sm_free(path);
    }
    struct memory before = measure(store);
    printf("%s\n%6s %12s %12s %12s\n", name, "VMs", "PSS MiB", "private MiB", "cache MiB");
    for (int i = 0; i < n; i++) {
        vms[i] = start(image, &config);
        nanosleep(&(struct timespec){.tv_nsec = 500000000},
                  NULL); /* what starting needed is gone */
        last = measure(store);
        second = i == 1 ? last : second;
        printf("%6d %12.1f %12.1f %12.1f\n", i + 1, mib(last.pss - before.pss),
               mib(last.own - before.own), mib(last.cached));
        fflush(stdout);
        if (file)
            fprintf(file, "%s\t%d\t%.2f\t%.2f\t%.2f\n", name, i + 1, mib(last.pss - before.pss),
                    mib(last.own - before.own), mib(last.cached));
    }
    if (n > 2) /* from the second on: while there is one, all is its own */
        printf("each further VM: %.1f MiB private, %.1f MiB of PSS\n\n",
               mib(last.own - second.own) / (n - 2), mib(last.pss - second.pss) / (n - 2));
    for (int i = 0; i < n; i++)
        sm_vm_free(vms[i]);
    free(vms);
}

int main(int argc, char **argv)
{
    struct sm_error err = {0};
    sm_store *store;
    sm_image *image;
    int n = argc > 2 ? atoi(argv[2]) : 4;
    FILE *file = argc > 3 ? fopen(argv[3], "w") : NULL;
    if (argc < 2 || n < 1 || (argc > 3 && !file)) {
        fprintf(stderr, "usage: density IMAGE [N [FILE]]\n");
        return 2;
    }
    must(sm_store_open(NULL, &store, &err), "store", &err);
    must(sm_image_from_oci(store, argv[1], &image, &err), "image", &err);
    scenario(sm_store_path(store), image, SM_SNAPSHOTS_AUTO, "from one snapshot", n, file);
    scenario(sm_store_path(store), image, SM_SNAPSHOTS_NEVER, "booted cold", n, file);
    sm_image_free(image);
    sm_store_free(store);
    return file && fclose(file) ? 1 : 0;
}
