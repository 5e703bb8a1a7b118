/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What restoring costs the monitor alone, no guest instruction run: restore [--rounds N] SNAPSHOT
 * LAYER.... From a snapshot's folder and the layers' files to a machine that could start: files
 * opened and checked, RAM and layers mapped, devices and vCPUs made and given their state. The
 * TSC's rate is known, as it is to the library from its first VM on. In this process; the process
 * of its own that a VM has otherwise is in the rows of bench/vms. Prints one line: "restore MEDIAN
 * P99 LEAST MOST", in microseconds.
 */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu/engine.h"
#include "cpu/tsc.h"
#include "vm/snapshot.h"
#include "vm/vm.h"

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int restore(const char *dir, const char *const *layers, unsigned n_layers, uint64_t khz,
                   double *us)
{
    struct sm_error err = {0};
    struct snapshot *s = NULL;
    struct vm *vm = NULL;
    double start = now_us();
    int rc = snapshot_open(dir, false, &s, &err);
    if (!rc) {
        struct vm_config config = {.engine = &engine_soft,
                                   .memory_bytes = s->memory_bytes,
                                   .vcpus = s->vcpus,
                                   .cpu = s->cpu_model,
                                   .snapshot = s,
                                   .tsc_khz = khz,
                                   .layers = layers,
                                   .n_layers = n_layers};
        rc = vm_new(&config, &vm, &err);
    }
    *us = now_us() - start;
    if (rc)
        fprintf(stderr, "restore: %s: %s\n", dir, err.text);
    vm_free(vm);
    snapshot_free(s);
    return rc;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"rounds", required_argument, NULL, 'r'}, {0}};
    unsigned rounds = 200;
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c != 'r')
            return 2;
        rounds = (unsigned)atoi(optarg);
    }
    if (rounds < 1 || argc - optind < 1)
        return 2;
    const char *const *layers = (const char *const *)argv + optind + 1;
    double *us = calloc(rounds, sizeof *us);
    uint64_t khz = tsc_khz(NULL);
    for (unsigned i = 0; us && i < rounds; i++)
        if (restore(argv[optind], layers, (unsigned)(argc - optind - 1), khz, &us[i]))
            return 1;
    if (!us)
        return 1;
    qsort(us, rounds, sizeof *us, by_value);
    printf("restore %.0f %.0f %.0f %.0f\n", us[rounds / 2], us[rounds - 1 - rounds / 100], us[0],
           us[rounds - 1]);
    free(us);
    return 0;
}
