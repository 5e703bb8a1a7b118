/* SPDX-License-Identifier: Apache-2.0 */
/* Work that four threads share: what several vCPUs are for. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "rows.h"

#define THREADS 4
#define TABLE_WORDS 8192u /* 64 KiB for each thread */
#define STEPS 10000000u

struct job {
    pthread_t thread;
    uint64_t *table; /* TABLE_WORDS, in the row's arena */
    uint64_t seed, sum;
};

/* Loads, stores, multiplications and unpredictable branches on memory of the thread's own. */
static void *work(void *opaque)
{
    struct job *job = opaque;
    uint64_t seed = job->seed, sum = 0;

    for (unsigned i = 0; i < TABLE_WORDS; i++)
        job->table[i] = rows_random(&seed);
    for (unsigned i = 0; i < STEPS; i++) {
        uint64_t *p = &job->table[sum % TABLE_WORDS];

        sum = (sum ^ *p) * UINT64_C(0x9e3779b97f4a7c15);
        sum ^= sum >> 29;
        if (sum & 4)
            *p += sum;
    }
    job->sum = sum;
    return NULL;
}

static uint64_t threads_run(struct row_env *env)
{
    struct job jobs[THREADS];
    uint64_t sum = 0;

    for (unsigned i = 0; i < THREADS; i++) {
        jobs[i] = (struct job){.table = (uint64_t *)env->arena + i * TABLE_WORDS, .seed = i + 1};
        if (pthread_create(&jobs[i].thread, NULL, work, &jobs[i]) != 0) {
            puts("bench error no thread");
            exit(1);
        }
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(jobs[i].thread, NULL);
        sum += jobs[i].sum;
    }
    return sum;
}

const struct row rows_smp[] = {{"4 threads", 1, NULL, NULL, threads_run}, {0}};
