/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's server as an ordinary process, for tests: agent_host SOCKET listens on a Unix socket
 * and runs commands on the host, until SHUTDOWN or until its parent dies. The same code as PID 1
 * runs.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "server.h"

int main(int argc, char **argv)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct server_config config = {0};

    if (argc != 2 || strlen(argv[1]) >= sizeof a.sun_path) {
        fprintf(stderr, "usage: agent_host SOCKET\n");
        return 125;
    }
    strcpy(a.sun_path, argv[1]);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* orphans come to it, as to PID 1 */
    config.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (config.listen_fd < 0 || bind(config.listen_fd, (struct sockaddr *)&a, sizeof a) < 0 ||
        listen(config.listen_fd, 128) < 0) {
        perror("agent_host: listen");
        return 125;
    }
    puts("ready");
    fflush(stdout);
    if (server_run(&config) < 0) {
        perror("agent_host: serve");
        return 125;
    }
    close(config.listen_fd);
    return 0;
}
