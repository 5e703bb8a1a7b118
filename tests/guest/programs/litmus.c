/* SPDX-License-Identifier: Apache-2.0 */
/*
 * May these processors see what x86 forbids? Store buffering (allowed; with MFENCE or a
 * locked instruction forbidden), message passing, load buffering, independent reads of independent
 * writes. (Intel SDM vol. 3A, 9.2.) Each round all threads start together on fresh variables;
 * $ROUNDS of them. Arguments: the names of the tests to run, else all.
 */
#include <pthread.h>
#include <sched.h>

#include "observe.h"

#define BATCH 256 /* rounds between two looks at what was seen */

struct cell {
    volatile uint32_t x __attribute__((aligned(64)));
    volatile uint32_t y __attribute__((aligned(64)));
    uint32_t seen[4][2] __attribute__((aligned(64)));
};

static struct cell cells[BATCH];
static uint32_t arrived;
static unsigned rounds = 20000;

#define STORE(v) __asm__ volatile("movl $1, %0" : "=m"(v)::"memory")
#define LOAD(to, v) __asm__ volatile("movl %1, %0" : "=r"(to) : "m"(v) : "memory")

static void store_load(struct cell *c, unsigned who, int fence)
{
    uint32_t r;
    if (who > 1)
        return;
    if (who == 0)
        STORE(c->x);
    else
        STORE(c->y);
    if (fence == 1)
        __asm__ volatile("mfence" ::: "memory");
    if (fence == 2)
        __asm__ volatile("lock orl $0, (%%rsp)" ::: "memory", "cc");
    if (who == 0)
        LOAD(r, c->y);
    else
        LOAD(r, c->x);
    c->seen[who][0] = r;
}
static void sb(struct cell *c, unsigned who)
{
    store_load(c, who, 0);
}
static void sb_mfence(struct cell *c, unsigned who)
{
    store_load(c, who, 1);
}
static void sb_locked(struct cell *c, unsigned who)
{
    store_load(c, who, 2);
}
static void mp(struct cell *c, unsigned who)
{
    uint32_t a, b;
    if (who == 0) {
        STORE(c->x);
        STORE(c->y);
    } else if (who == 1) {
        LOAD(a, c->y);
        LOAD(b, c->x);
        c->seen[1][0] = a;
        c->seen[1][1] = b;
    }
}
static void lb(struct cell *c, unsigned who)
{
    uint32_t r;
    if (who == 0) {
        LOAD(r, c->x);
        STORE(c->y);
        c->seen[0][0] = r;
    } else if (who == 1) {
        LOAD(r, c->y);
        STORE(c->x);
        c->seen[1][0] = r;
    }
}
static void iriw(struct cell *c, unsigned who)
{
    uint32_t a, b;
    if (who == 0)
        STORE(c->x);
    if (who == 1)
        STORE(c->y);
    if (who == 2) {
        LOAD(a, c->x);
        LOAD(b, c->y);
        c->seen[2][0] = a;
        c->seen[2][1] = b;
    }
    if (who == 3) {
        LOAD(a, c->y);
        LOAD(b, c->x);
        c->seen[3][0] = a;
        c->seen[3][1] = b;
    }
}

static bool both_zero(const struct cell *c)
{
    return c->seen[0][0] == 0 && c->seen[1][0] == 0;
}
static bool flag_without_data(const struct cell *c)
{
    return c->seen[1][0] == 1 && c->seen[1][1] == 0;
}
static bool both_one(const struct cell *c)
{
    return c->seen[0][0] == 1 && c->seen[1][0] == 1;
}
static bool two_orders(const struct cell *c)
{
    return c->seen[2][0] == 1 && c->seen[2][1] == 0 && c->seen[3][0] == 1 && c->seen[3][1] == 0;
}

static const struct test {
    const char *name;
    void (*step)(struct cell *c, unsigned who);
    bool (*odd)(const struct cell *c);
    unsigned threads;
    bool allowed;
} tests[] = {
    {"SB", sb, both_zero, 2, true},
    {"SB+mfence", sb_mfence, both_zero, 2, false},
    {"SB+lock", sb_locked, both_zero, 2, false},
    {"MP", mp, flag_without_data, 2, false},
    {"LB", lb, both_one, 2, false},
    {"IRIW", iriw, two_orders, 4, false},
};

static const struct test *current;
static unsigned odd, max_spins;

/* Spinning, so that all leave at once; yielding, as there may be fewer processors than threads, in
 * the guest (sched_yield) or below it (pause). */
static void barrier(unsigned *turn)
{
    uint32_t all = ++*turn * current->threads;
    __atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST);
    for (unsigned spins = 0; __atomic_load_n(&arrived, __ATOMIC_SEQ_CST) < all; spins++) {
        __builtin_ia32_pause();
        if (spins >= max_spins)
            sched_yield();
    }
}

static void *take_part(void *arg)
{
    unsigned who = (unsigned)(uintptr_t)arg, turn = 0;
    uint64_t random = who + 1;
    for (unsigned done = 0; done < rounds; done += BATCH) {
        for (unsigned i = 0; i < BATCH; i++) {
            barrier(&turn);
            for (unsigned wait = next_random(&random) % 256; wait > 0; wait--)
                __asm__ volatile("");
            current->step(&cells[i], who);
        }
        barrier(&turn);
        if (who > 0)
            continue;
        for (unsigned i = 0; i < BATCH; i++)
            odd += current->odd(&cells[i]);
        memset(cells, 0, sizeof cells);
    }
    return NULL;
}

static bool wanted(const char *name, int argc, char **argv)
{
    bool found = argc < 2;
    for (int i = 1; i < argc; i++)
        found |= strcmp(argv[i], name) == 0;
    return found;
}

int main(int argc, char **argv)
{
    if (getenv("ROUNDS"))
        rounds = (unsigned)strtoul(getenv("ROUNDS"), NULL, 10);
    for (unsigned i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        pthread_t t[4];
        if (!wanted(tests[i].name, argc, argv))
            continue;
        current = &tests[i];
        max_spins = sysconf(_SC_NPROCESSORS_ONLN) >= current->threads ? 20000 : 0;
        odd = 0;
        arrived = 0;
        for (uintptr_t who = 0; who < current->threads; who++)
            MUST(pthread_create(&t[who], NULL, take_part, (void *)who) == 0);
        for (unsigned who = 0; who < current->threads; who++)
            MUST(pthread_join(t[who], NULL) == 0);
        if (current->allowed)
            fprintf(stderr, "%s: seen %u times of %u, which is allowed\n", current->name, odd,
                    rounds);
        else
            printf("%s: seen %u times, forbidden\n", current->name, odd);
    }
    return 0;
}
