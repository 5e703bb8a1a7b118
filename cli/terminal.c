// SPDX-License-Identifier: Apache-2.0
/*
 * Signals that can be waited for are handled in signals.c; here are only those that kill: the
 * terminal is restored, then they take their course.
 */
#include "terminal.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* The one state of the whole process: its terminal, and a handler can be given nothing. */
static struct termios saved;
static volatile sig_atomic_t raw;

bool terminal_size(uint16_t *rows, uint16_t *columns)
{
    for (int fd = 0; fd <= 2; fd++) {
        struct winsize size;
        if (ioctl(fd, TIOCGWINSZ, &size) == 0) {
            *rows = size.ws_row;
            *columns = size.ws_col;
            return true;
        }
    }
    *rows = *columns = 0;
    return false;
}

void terminal_restore(void)
{
    if (raw) {
        raw = 0;
        tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
    }
}

static void on_fault(int signal)
{
    terminal_restore();
    raise(signal); /* SA_RESETHAND: this time it kills */
}

void terminal_raw(void)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
    struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_RESETHAND | SA_NODEFER};
    struct termios mode;
    if (raw || tcgetattr(STDIN_FILENO, &saved) != 0)
        return;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        sigaction(faults[i], &action, NULL);
    atexit(terminal_restore);
    mode = saved;
    cfmakeraw(&mode);
    raw = 1;
    tcsetattr(STDIN_FILENO, TCSADRAIN, &mode);
}
