// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/jail.h"
#ifndef SM_SANITIZED
#include "jail_filters.h" /* generated: jail_filters[role][kvm] */
#endif

/* What the C library itself does on any thread: locks, memory, signals, the thread's end. */
/* jail(main,beacon,loop,vcpu,share): futex mmap munmap mremap mprotect madvise brk */
/* jail(main,beacon,loop,vcpu,share): rt_sigprocmask rt_sigreturn sched_yield */
/* jail(main,beacon,loop,vcpu,share): restart_syscall exit exit_group */
/* jail(main,beacon,loop,vcpu,share): clock_gettime clock_nanosleep getrandom */

int jail_thread(enum jail_role role, bool kvm, struct sm_error *err)
{
#ifdef SM_SANITIZED /* whose run time makes calls of its own, to report what it found */
    (void)role;
    (void)kvm;
    (void)err;
    return 0;
#else
    struct sock_filter code[JAIL_FILTER_MAX];
    struct sock_fprog filter = {.len = jail_filters[role][kvm].len, .filter = code};
    unsigned self = (unsigned)getpid();
    memcpy(code, jail_filters[role][kvm].code, filter.len * sizeof code[0]);
    for (unsigned i = 0; i < filter.len; i++)
        if (BPF_CLASS(code[i].code) == BPF_JMP && code[i].k == JAIL_OWN_PID)
            code[i].k = self;
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) == 0)
        return 0;
    return err_sys(err, "jail: cannot restrict the system calls");
#endif
}
