// SPDX-License-Identifier: Apache-2.0
/* PID 1 of ends.sh: ends the VM in the way that the command line's ENDS=... names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

int main(void)
{
    const char *how = getenv("ENDS");
    printf("init is up, ENDS=%s\n", how ? how : "(none)");
    fflush(stdout);
    if (how && strcmp(how, "off") == 0)
        reboot(RB_POWER_OFF);
    if (how && strcmp(how, "reset") == 0)
        reboot(RB_AUTOBOOT);
    if (how && strcmp(how, "hang") == 0)
        pause();
    return 0; /* the end of PID 1 is a kernel panic */
}
