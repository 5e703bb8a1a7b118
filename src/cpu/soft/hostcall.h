/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What code inside a run slice may ask of the host: futexes and the processor for others. Direct
 * system calls, because libc's wrappers may touch vector registers, and errno; the kernel does
 * neither. And a lock made of them.
 */
#ifndef SM_SOFT_HOSTCALL_H
#define SM_SOFT_HOSTCALL_H

#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

static inline long host_futex(_Atomic uint32_t *word, int op, uint32_t value,
                              const struct timespec *timeout)
{
    long ret;
    register const struct timespec *r10 __asm__("r10") = timeout;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(SYS_futex), "D"(word), "S"(op), "d"(value), "r"(r10)
                     : "rcx", "r11", "memory");
    return ret;
}

/* Sleep while *word is value, at most for timeout (NULL: for ever). May also return early. */
static inline void host_wait(_Atomic uint32_t *word, uint32_t value, const struct timespec *timeout)
{
    host_futex(word, FUTEX_WAIT_PRIVATE, value, timeout);
}

static inline void host_wake(_Atomic uint32_t *word)
{
    host_futex(word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL);
}

/* jail(vcpu): madvise */
/* Give the whole pages between two addresses back to the host; advice: MADV_DONTNEED for private
 * memory, MADV_REMOVE for shared. They read as zeros then, or as they were. */
static inline void host_discard(void *from, void *to, int advice)
{
    uintptr_t start = ((uintptr_t)from + 4095) & ~(uintptr_t)4095;
    uintptr_t end = (uintptr_t)to & ~(uintptr_t)4095;
    long ret;
    if (start < end) {
        __asm__ volatile("syscall"
                         : "=a"(ret)
                         : "a"(SYS_madvise), "D"(start), "S"(end - start), "d"((long)advice)
                         : "rcx", "r11", "memory");
    }
}

/* Let other threads of this host processor run. */
static inline void host_yield(void)
{
    long ret;
    __asm__ volatile("syscall" : "=a"(ret) : "a"(SYS_sched_yield) : "rcx", "r11", "memory");
}

#define SPIN_TRIES 100

/* A lock for a few instructions. The holder may be preempted where there are more vCPUs than
 * processors: a waiter gives way after a while. */
static inline void spin_lock(atomic_flag *lock)
{
    for (unsigned n = 0; atomic_flag_test_and_set_explicit(lock, memory_order_acquire); n++) {
        if (n < SPIN_TRIES) {
            __builtin_ia32_pause();
        } else {
            host_yield();
        }
    }
}

static inline void spin_unlock(atomic_flag *lock)
{
    atomic_flag_clear_explicit(lock, memory_order_release);
}

#endif
