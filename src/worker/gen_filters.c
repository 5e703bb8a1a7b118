// SPDX-License-Identifier: Apache-2.0
/*
 * Runs when this is built: has libseccomp make the filter of each role, so that a starting worker
 * only loads it. Output: a C header.
 */
#include <linux/filter.h>
#include <seccomp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "jail_rules.h" /* generated: jail_calls[], by role */
#include "worker/jail.h"

#define MAX 512 /* instructions */

static int allow(scmp_filter_ctx filter, int number)
{
    /* No memory becomes executable that was not when the jail closed. */
    if (number == SCMP_SYS(mmap) || number == SCMP_SYS(mprotect))
        return seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 1,
                                SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    /* No signal to anyone else. */
    if (number == SCMP_SYS(tgkill))
        return seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 1,
                                SCMP_A0(SCMP_CMP_EQ, JAIL_OWN_PID));
    return seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
}

/* The instructions of one filter; their number, or -1. */
static int make(enum jail_role role, bool kvm, struct sock_filter code[MAX])
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    FILE *f = tmpfile();
    if (!filter || !f)
        return -1;
    int rc = 0;
    for (unsigned i = 0; !rc && i < sizeof jail_calls / sizeof jail_calls[0]; i++)
        if (jail_calls[i].roles[kvm] >> role & 1)
            rc = allow(filter, jail_calls[i].number);
    rc = rc ? rc : seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* by binary search */
    rc = rc ? rc : seccomp_export_bpf(filter, fileno(f));
    rewind(f);
    size_t n = rc ? 0 : fread(code, sizeof code[0], MAX, f);
    fclose(f);
    seccomp_release(filter);
    return rc || n == 0 || n == MAX ? -1 : (int)n;
}

int main(void)
{
    struct sock_filter code[MAX];
    int largest = 0, lengths[JAIL_ROLES][2];
    for (int role = 0; role < JAIL_ROLES; role++) {
        for (int kvm = 0; kvm < 2; kvm++) {
            int n = lengths[role][kvm] = make((enum jail_role)role, kvm, code);
            if (n < 0)
                return 1;
            largest = n > largest ? n : largest;
            printf("static const struct sock_filter jail_filter_%d_%d[] = {\n", role, kvm);
            for (int i = 0; i < n; i++)
                printf("    {%#x, %u, %u, %#x},\n", code[i].code, code[i].jt, code[i].jf,
                       code[i].k);
            puts("};");
        }
    }
    printf("#define JAIL_FILTER_MAX %d\n", largest);
    puts("static const struct {\n    const struct sock_filter *code;\n    unsigned short len;\n"
         "} jail_filters[][2] = {");
    for (int role = 0; role < JAIL_ROLES; role++)
        printf("    {{jail_filter_%d_0, %d}, {jail_filter_%d_1, %d}},\n", role, lengths[role][0],
               role, lengths[role][1]);
    puts("};");
    return 0;
}
