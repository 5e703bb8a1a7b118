// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <seccomp.h>
#include <sys/mman.h>

#include "jail_rules.h" /* generated: jail_calls[], by role */
#include "worker/jail.h"

/* What the C library itself does on any thread: locks, memory, signals, the thread's end. */
/* jail(main,beacon,loop,vcpu): futex mmap munmap mremap mprotect madvise brk */
/* jail(main,beacon,loop,vcpu): rt_sigprocmask rt_sigreturn sched_yield restart_syscall exit */
/* jail(main,beacon,loop,vcpu): clock_gettime clock_nanosleep getrandom exit_group */

#ifndef SM_SANITIZED
static int allow(scmp_filter_ctx filter, int number)
{
    /* No memory becomes executable that was not when the jail closed. */
    if (number == SCMP_SYS(mmap) || number == SCMP_SYS(mprotect))
        return seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 1,
                                SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    return seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
}
#endif

int jail_thread(enum jail_role role, bool kvm, struct sm_error *err)
{
#ifdef SM_SANITIZED /* whose run time makes calls of its own, to report what it found */
    (void)role;
    (void)kvm;
    (void)err;
    return 0;
#else
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    int rc = filter ? 0 : -ENOMEM;
    for (unsigned i = 0; !rc && i < sizeof jail_calls / sizeof jail_calls[0]; i++)
        if (jail_calls[i].roles[kvm] >> role & 1)
            rc = allow(filter, jail_calls[i].number);
    rc = rc ? rc : seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* by binary search */
    rc = rc ? rc : seccomp_load(filter);
    seccomp_release(filter);
    if (!rc)
        return 0;
    errno = -rc;
    return err_sys(err, "jail: cannot restrict the system calls");
#endif
}
