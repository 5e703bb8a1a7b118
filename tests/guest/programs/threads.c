/* SPDX-License-Identifier: Apache-2.0 */
/* Threads: locks, conditions, futexes of every kind, thread-local storage, atomics of every width.
 */
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "observe.h"

#define THREADS 8
#define ITEMS 4000

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_empty = PTHREAD_COND_INITIALIZER, not_full = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static uint64_t queue[16], counter, torn;
static unsigned head, tail;
static __thread uint64_t own = 7;
static struct {
    uint64_t a, b;
} pair;
static _Atomic uint8_t byte;
static _Atomic uint16_t word;
static _Atomic uint32_t dword;
static _Atomic uint64_t qword, bits, loops;
static struct {
    uint64_t low, high;
} __attribute__((aligned(16))) wide;

static void run(void *(*f)(void *), unsigned n)
{
    pthread_t t[THREADS];
    for (uintptr_t i = 0; i < n; i++)
        MUST(pthread_create(&t[i], NULL, f, (void *)i) == 0);
    for (unsigned i = 0; i < n; i++)
        MUST(pthread_join(t[i], NULL) == 0);
}

static void *produce_or_consume(void *arg)
{
    bool producer = (uintptr_t)arg % 2;
    for (unsigned i = 0; i < ITEMS; i++) {
        pthread_mutex_lock(&lock);
        while (producer ? head - tail == 16 : head == tail)
            pthread_cond_wait(producer ? &not_full : &not_empty, &lock);
        if (producer)
            queue[head++ % 16] = (uintptr_t)arg * ITEMS + i;
        else
            counter += queue[tail++ % 16];
        pthread_mutex_unlock(&lock);
        pthread_cond_signal(producer ? &not_empty : &not_full);
    }
    return NULL;
}

static void *read_or_write(void *arg)
{
    for (unsigned i = 0; i < ITEMS; i++) {
        if ((uintptr_t)arg == 0) {
            pthread_rwlock_wrlock(&rwlock);
            pair.a++;
            if (i % 64 == 0)
                sched_yield();
            pair.b++;
        } else {
            pthread_rwlock_rdlock(&rwlock);
            torn += pair.a != pair.b;
        }
        pthread_rwlock_unlock(&rwlock);
    }
    return NULL;
}

static bool swap_wide(uint64_t *low, uint64_t *high, uint64_t new_low, uint64_t new_high)
{
    bool done;
    __asm__ volatile("lock cmpxchg16b %1"
                     : "=@cce"(done), "+m"(wide), "+a"(*low), "+d"(*high)
                     : "b"(new_low), "c"(new_high)
                     : "memory");
    return done;
}

static void *add(void *arg)
{
    uint64_t low = 0, high = 0;
    for (unsigned i = 0; i < ITEMS; i++) {
        byte += 3;
        word += 5;
        atomic_fetch_add(&dword, 7);
        atomic_fetch_sub(&qword, 11);
        atomic_fetch_xor(&bits, 1ull << (i % 64));
        while (!swap_wide(&low, &high, low + 1, high - 1))
            ;
        own += (uintptr_t)arg + i;
        uint64_t seen = atomic_load(&loops);
        while (!atomic_compare_exchange_weak(&loops, &seen, seen + 1))
            ;
    }
    pthread_mutex_lock(&lock);
    counter += own;
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void *meet(void *arg)
{
    for (unsigned i = 0; i < 200; i++) {
        if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
            counter++;
        pthread_barrier_wait(&barrier);
        torn += counter != i + 1;
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

static long futex(void *address, int op, uint32_t value, const void *timeout, void *second,
                  uint32_t third)
{
    return syscall(SYS_futex, address, op, value, timeout, second, third);
}

static uint32_t gate, other_gate;

static void *pass_gate(void *arg)
{
    while (__atomic_load_n(&gate, __ATOMIC_SEQ_CST) == 0)
        futex(&gate, FUTEX_WAIT, 0, NULL, NULL, 0);
    __atomic_fetch_add(&other_gate, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void *sleep_and_die(void *arg)
{
    pthread_mutex_lock(arg);
    return NULL; /* with the lock held */
}

static void futexes(void)
{
    struct timespec soon = {0, 3000000};
    uint64_t before = clock_ns(CLOCK_MONOTONIC);
    long n = futex(&gate, FUTEX_WAIT, 0, &soon, NULL, 0);
    printf("wait with a timeout: %ld %s, %s\n", n, strerror(errno),
           clock_ns(CLOCK_MONOTONIC) - before >= 3000000 ? "late enough" : "too early");
    n = futex(&gate, FUTEX_WAIT, 1, NULL, NULL, 0);
    printf("wait for another value: %ld %s\n", n, strerror(errno));
    printf("wake nobody: %ld\n", futex(&gate, FUTEX_WAKE, 10, NULL, NULL, 0));
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        MUST(pthread_create(&t[i], NULL, pass_gate, NULL) == 0);
    usleep(20000);
    __atomic_store_n(&gate, 1, __ATOMIC_SEQ_CST);
    futex(&gate, FUTEX_WAKE, 100, NULL, NULL, 0);
    for (int i = 0; i < 4; i++)
        MUST(pthread_join(t[i], NULL) == 0);
    printf("through the gate: %u\n", other_gate);

    pthread_mutexattr_t a;
    pthread_mutex_t robust, inheriting;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&robust, &a);
    MUST(pthread_create(&t[0], NULL, sleep_and_die, &robust) == 0);
    pthread_join(t[0], NULL);
    printf("robust lock of a dead thread: %s", strerror(pthread_mutex_lock(&robust)));
    printf(", then %s\n", pthread_mutex_consistent(&robust) ? "not consistent" : "consistent");
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT);
    printf("inheriting lock: %d", pthread_mutex_init(&inheriting, &a));
    printf(" %d", pthread_mutex_lock(&inheriting));
    printf(" %d\n", pthread_mutex_unlock(&inheriting));
}

static void *endless(void *arg)
{
    for (;;)
        usleep(1000);
    return NULL;
}

static void *nothing(void *arg)
{
    return arg;
}

static void life_and_death(void)
{
    pthread_t t;
    void *result;
    MUST(pthread_create(&t, NULL, endless, NULL) == 0);
    usleep(3000);
    pthread_cancel(t);
    pthread_join(t, &result);
    printf("cancelled: %s\n", result == PTHREAD_CANCELED ? "yes" : "no");
    unsigned long sum = 0;
    for (uintptr_t i = 0; i < 500; i++) {
        MUST(pthread_create(&t, NULL, nothing, (void *)i) == 0);
        MUST(pthread_join(t, &result) == 0);
        sum += (uintptr_t)result;
    }
    printf("five hundred threads: %lu\n", sum);
}

int main(void)
{
    run(produce_or_consume, THREADS);
    printf("queue: %llu\n", (unsigned long long)counter);
    run(read_or_write, 4);
    printf("readers and a writer: %llu torn of %llu\n", (unsigned long long)torn,
           (unsigned long long)pair.a);
    counter = 0;
    run(add, THREADS);
    printf("atomics: %u %u %u %lld %llx %llu, wide %llu %llu, own %llu\n", byte, word, dword,
           (long long)qword, (unsigned long long)bits, (unsigned long long)loops,
           (unsigned long long)wide.low, (unsigned long long)-wide.high,
           (unsigned long long)counter);
    counter = torn = 0;
    pthread_barrier_init(&barrier, NULL, THREADS);
    run(meet, THREADS);
    printf("barrier: %llu rounds, %llu wrong\n", (unsigned long long)counter,
           (unsigned long long)torn);
    futexes();
    life_and_death();
    return 0;
}
