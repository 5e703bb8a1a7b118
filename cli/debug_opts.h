/* SPDX-License-Identifier: Apache-2.0 */
/* The options for whoever looks for a fault: what to check and trace, and where it is written. */
#ifndef CLI_DEBUG_OPTS_H
#define CLI_DEBUG_OPTS_H

#include <stdio.h>

#include "cli.h"
#include "command_opts.h"

enum {
    DEBUG_OPT_CHECK = COMMAND_OPT_END,
    DEBUG_OPT_CHECK_EVERY,
    DEBUG_OPT_TRACE,
    DEBUG_OPT_FILE,
    DEBUG_OPT_END
};

#define DEBUG_OPTIONS                                                                              \
    {0, "check", NULL, "have the soft engine check every block it runs (very slow)",               \
     DEBUG_OPT_CHECK},                                                                             \
        {0, "check-every", "N", "the same, but after its first 50 runs one in N of a block's",     \
         DEBUG_OPT_CHECK_EVERY},                                                                   \
        {0, "trace", "LEVEL,...", "tell of exits, interrupts, tlb, code=FROM-TO (addresses)",      \
         DEBUG_OPT_TRACE},                                                                         \
    {                                                                                              \
        0, "debug-file", "FILE", "where that is written (default stderr)", DEBUG_OPT_FILE          \
    }

struct debug_opts {
    uint32_t debug; /* SM_DEBUG_* */
    uint32_t check_every;
    uint64_t code_from, code_to;
    const char *path; /* or NULL */
    FILE *file;       /* owned once opened; else NULL: stderr */
};

/* One option of the table. 0, or EXIT_OURS after a message of this command's. */
int debug_opts_take(struct debug_opts *d, const char *command, int id, const char *value);
/* Open the file, and ask for all of it. d must last as long as the VM. */
int debug_opts_fill(struct debug_opts *d, const char *command, struct sm_vm_config *config);
void debug_opts_fini(struct debug_opts *d);

#endif
