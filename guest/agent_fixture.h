/* SPDX-License-Identifier: Apache-2.0 */
/* For tests: one agent_host process, connections to it, and commands run through agent/client.h. */
#ifndef SM_GUEST_AGENT_FIXTURE_H
#define SM_GUEST_AGENT_FIXTURE_H

#include <stdbool.h>
#include <sys/types.h>

#include "agent/client.h"
#include "base/buf.h"

struct fixture {
    pid_t pid;       /* of agent_host */
    size_t base_fds; /* of agent_host without a session */
    char dir[32];
    char socket[64];
};

/* cmocka group set-up and tear-down; the tear-down fails when agent_host did not end well (leaks
 * included). The program's path comes from the environment: AGENT_HOST. */
int fixture_setup(void **state);
int fixture_teardown(void **state);

int fixture_connect(const struct fixture *f); /* aborts the test on failure */

/* What a command did. */
struct outcome {
    int status; /* of client_run */
    struct client_result result;
    struct sm_error err;
    struct buf out[2]; /* stdout, stderr, NUL-terminated */
};
void outcome_fini(struct outcome *o);

/* Run to the end, collecting the output (spec's descriptors and callback are replaced but for
 * stdin). */
void fixture_run(const struct fixture *f, struct client_spec spec, struct outcome *o);
/* `/bin/sh -c script`, without stdin. */
void fixture_shell(const struct fixture *f, const char *script, struct outcome *o);

/* The agent is back to no session, no descriptor and no child: within 2 s, or the test fails. */
void fixture_expect_idle(const struct fixture *f);
size_t fixture_status_kb(pid_t pid, const char *field); /* "VmRSS", "VmHWM", ... of a process */
bool fixture_wait_gone(pid_t pid, int timeout_ms);      /* until the process is no more */

#endif
