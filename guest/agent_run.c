/* SPDX-License-Identifier: Apache-2.0 */
/* agent_run SOCKET [-t] CMD [ARG...]: one session with an agent_host, by hand or from a script. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/client.h"

int main(int argc, char **argv)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct client_spec spec = {.stdin_fd = 0, .stdout_fd = 1, .stderr_fd = 2};
    struct client_result result = {0};
    struct sm_error err = {0};
    struct client *c = NULL;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), status;

    spec.tty = argc > 2 && strcmp(argv[2], "-t") == 0;
    if (argc < 3 + spec.tty || strlen(argv[1]) >= sizeof a.sun_path)
        return 125;
    strcpy(a.sun_path, argv[1]);
    spec.argv = (const char *const *)argv + 2 + spec.tty;
    if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
        perror("agent_run: connect");
        return 125;
    }
    status = client_new(&c, fd, &spec, &err);
    if (status == 0)
        status = client_run(c, -1, &result, &err);
    client_free(c);
    if (status)
        fprintf(stderr, "agent_run: %s\n", err.text);
    return status && !result.refused ? 125 : result.code;
}
