/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lock for a few instructions, usable inside a run slice. A waiter gives its host processor away
 * after a while: with more vCPUs than processors the holder may be preempted.
 */
#ifndef SM_SOFT_SPIN_H
#define SM_SOFT_SPIN_H

#include <stdatomic.h>
#include <sys/syscall.h>

#define SPIN_TRIES 100

/* sched_yield(2) without libc, whose wrapper may touch vector registers. */
static inline void spin_yield(void)
{
    long ret;
    __asm__ volatile("syscall" : "=a"(ret) : "a"(SYS_sched_yield) : "rcx", "r11", "memory");
}

static inline void spin_lock(atomic_flag *lock)
{
    for (unsigned n = 0; atomic_flag_test_and_set_explicit(lock, memory_order_acquire); n++) {
        if (n < SPIN_TRIES) {
            __builtin_ia32_pause();
        } else {
            spin_yield();
        }
    }
}

static inline void spin_unlock(atomic_flag *lock)
{
    atomic_flag_clear_explicit(lock, memory_order_release);
}

#endif
