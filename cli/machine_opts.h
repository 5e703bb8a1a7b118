/* SPDX-License-Identifier: Apache-2.0 */
/* The options that say what machine is wanted, for every command that starts one. */
#ifndef CLI_MACHINE_OPTS_H
#define CLI_MACHINE_OPTS_H

#include <stdint.h>

#include "cli.h"

#define MACHINE_OPTS_GO (-1)

/* Option ids; a command's own begin at MACHINE_OPT_END. */
enum {
    MACHINE_OPT_ENGINE = 1,
    MACHINE_OPT_MEMORY,
    MACHINE_OPT_VCPUS,
    MACHINE_OPT_CPU,
    MACHINE_OPT_KERNEL,
    MACHINE_OPT_END
};

#define MACHINE_OPTIONS                                                                            \
    {0, "memory", "MIB", "the VM's memory (default 256)", MACHINE_OPT_MEMORY},                     \
        {0, "vcpus", "N", "the VM's processors (1)", MACHINE_OPT_VCPUS},                           \
        {0, "cpu", "v2|v3", "the processor model (default the highest the host has)",              \
         MACHINE_OPT_CPU},                                                                         \
        {0, "engine", "auto|kvm|soft", "what runs guest instructions (default auto)",              \
         MACHINE_OPT_ENGINE},                                                                      \
    {                                                                                              \
        0, "kernel", "FILE", "another Linux kernel: bzImage or ELF vmlinux", MACHINE_OPT_KERNEL    \
    }

struct machine_opts {
    uint32_t engine, memory_mib, vcpus;
    const char *cpu, *kernel;
};

/* One option of the table. 0, or EXIT_OURS after a message of this command's. */
int machine_opts_take(struct machine_opts *m, const char *command, int id, const char *value);
void machine_opts_fill(const struct machine_opts *m, struct sm_vm_config *config);

#endif
