/* SPDX-License-Identifier: Apache-2.0 */
/* See selftest.h. Lines are "selftest: NAME ...", for tests/guest/boot.sh to look for. */
#include "selftest.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

static void print_file(const char *name, const char *path)
{
    FILE *f = fopen(path, "re");
    char line[512];

    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        printf("selftest: %s %s\n", name, line);
    }
    if (!f)
        printf("selftest: %s missing\n", name);
    else
        fclose(f);
}

static void run_true(void)
{
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(127);
    }
    if (pid > 0)
        waitpid(pid, &status, 0);
    printf("selftest: exec /bin/true %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

void selftest_print(unsigned layers)
{
    struct utsname u;
    struct stat st;

    memset(&u, 0, sizeof u);
    uname(&u);
    printf("selftest: kernel %s host %s layers %u\n", u.release, u.nodename, layers);
    print_file("mount", "/proc/self/mounts");
    print_file("hosts", "/etc/hosts");
    print_file("file", "/selftest");
    print_file("module", "/proc/modules");
    printf("selftest: init %s\n", stat("/init", &st) < 0 ? "hidden" : "visible");
    run_true();
    printf("selftest done\n");
    fflush(stdout);
}

bool selftest_drive(void)
{
    static const char *const driver = "/selftest-driver";
    pid_t pid;

    if (access(driver, X_OK) < 0)
        return false;
    pid = fork();
    if (pid == 0) {
        execl(driver, driver, (char *)NULL);
        _exit(127);
    }
    return pid > 0;
}
