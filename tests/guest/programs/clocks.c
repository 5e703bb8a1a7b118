/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks that go forward and agree, timers that are never early. */
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <x86intrin.h>

#include "observe.h"

static uint64_t system_ns(clockid_t id)
{
    struct timespec t;
    MUST(syscall(SYS_clock_gettime, id, &t) == 0);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void forward(void)
{
    static const struct {
        clockid_t id;
        const char *name;
    } clocks[] = {{CLOCK_REALTIME, "realtime"},          {CLOCK_MONOTONIC, "monotonic"},
                  {CLOCK_MONOTONIC_RAW, "raw"},          {CLOCK_BOOTTIME, "boottime"},
                  {CLOCK_PROCESS_CPUTIME_ID, "process"}, {CLOCK_THREAD_CPUTIME_ID, "thread"}};
    for (unsigned c = 0; c < sizeof clocks / sizeof clocks[0]; c++) {
        unsigned back = 0, apart = 0;
        uint64_t last = clock_ns(clocks[c].id);
        for (unsigned i = 0; i < 30000; i++) {
            /* The vDSO's answer and the kernel's, in turn. */
            uint64_t now = i % 16 ? clock_ns(clocks[c].id) : system_ns(clocks[c].id);
            back += now < last;
            apart += now > last + 5000000000u;
            last = now;
        }
        printf("%s: %u times back, %u leaps\n", clocks[c].name, back, apart);
    }
    unsigned back = 0;
    uint64_t last = __rdtsc();
    for (unsigned i = 0; i < 100000; i++) {
        unsigned aux;
        uint64_t now = i % 2 ? __rdtsc() : __rdtscp(&aux);
        back += now < last;
        last = now;
    }
    printf("time-stamp counter: %u times back\n", back);
}

static void agree(void)
{
    uint64_t m0 = clock_ns(CLOCK_MONOTONIC), r0 = clock_ns(CLOCK_MONOTONIC_RAW), t0 = __rdtsc();
    usleep(400000);
    uint64_t m = clock_ns(CLOCK_MONOTONIC) - m0, r = clock_ns(CLOCK_MONOTONIC_RAW) - r0,
             t = __rdtsc() - t0;
    double ratio = (double)m / (double)r, mhz = (double)t / (double)m * 1000;
    printf("monotonic and raw: %s; counter: %s\n",
           ratio > 0.99 && ratio < 1.01 ? "agree" : "differ",
           mhz > 100 && mhz < 20000 ? "plausible" : "implausible");
    if (!(ratio > 0.99 && ratio < 1.01))
        fprintf(stderr, "ratio %f, counter %f MHz\n", ratio, mhz);
}

static volatile sig_atomic_t ticks;

static void tick(int n, siginfo_t *info, void *context)
{
    ticks++;
}

static void timers(void)
{
    unsigned early = 0;
    for (uint64_t ns = 1000; ns < 30000000; ns *= 3) {
        struct timespec t = {0, (long)ns};
        uint64_t before = clock_ns(CLOCK_MONOTONIC);
        MUST(clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL) == 0);
        early += clock_ns(CLOCK_MONOTONIC) - before < ns;
    }
    printf("sleeps: %u early\n", early);
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    struct itimerspec every = {{0, 2000000}, {0, 2000000}};
    uint64_t before = clock_ns(CLOCK_MONOTONIC), n = 0, count;
    MUST(fd >= 0 && timerfd_settime(fd, 0, &every, NULL) == 0);
    while (n < 50) {
        MUST(read(fd, &count, 8) == 8);
        n += count;
    }
    uint64_t passed = clock_ns(CLOCK_MONOTONIC) - before;
    printf("timerfd: %s\n",
           passed >= n * 2000000 && passed < 10000000000u ? "never early" : "wrong");
    on_signal(SIGVTALRM, tick, SA_RESTART);
    on_signal(SIGALRM, tick, SA_RESTART);
    struct itimerval often = {{0, 5000}, {0, 5000}};
    MUST(setitimer(ITIMER_VIRTUAL, &often, NULL) == 0);
    for (before = clock_ns(CLOCK_MONOTONIC);
         ticks < 5 && clock_ns(CLOCK_MONOTONIC) - before < 20000000000u;)
        ;
    often = (struct itimerval){0};
    MUST(setitimer(ITIMER_VIRTUAL, &often, NULL) == 0);
    printf("virtual timer: %s\n", ticks >= 5 ? "ticks" : "does not tick");
    ticks = 0;
    timer_t timer;
    struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    struct itimerspec at = {{0, 0}, {0, 0}};
    MUST(timer_create(CLOCK_MONOTONIC, &e, &timer) == 0);
    uint64_t when = clock_ns(CLOCK_MONOTONIC) + 30000000;
    at.it_value = (struct timespec){(time_t)(when / 1000000000u), (long)(when % 1000000000u)};
    MUST(timer_settime(timer, TIMER_ABSTIME, &at, NULL) == 0);
    while (!ticks && clock_ns(CLOCK_MONOTONIC) < when + 20000000000u)
        usleep(1000);
    printf("absolute timer: %d, %s\n", (int)ticks,
           clock_ns(CLOCK_MONOTONIC) >= when ? "not early" : "early");
}

int main(void)
{
    forward();
    agree();
    timers();
    return 0;
}
