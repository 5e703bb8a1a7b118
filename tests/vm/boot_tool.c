// SPDX-License-Identifier: Apache-2.0
/*
 * boot_tool [OPTION...] KERNEL INITRAMFS [LAYER...]: boot a VM as the library does, show its
 * console, say how and when it ended. For developers of the engine and the devices.
 *   --memory MIB    (256)            --vcpus N     (1)
 *   --engine NAME   soft or kvm  (soft)
 *   --append TEXT   more kernel command line, e.g. "earlyprintk=ttyS0 ignore_loglevel"
 *   --times         prefix each console line with the seconds since the start
 *   --until TEXT    stop when the console printed TEXT      --timeout S   stop after S seconds
 *   --agent         stop when the agent called
 * Exit: 0 for a power-off or when what was waited for came, else 1.
 */
#include <getopt.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "cpu/engine.h"
#include "vm/vm.h"

struct tool {
    double start;
    bool times, line_begun;
    const char *until;
    int seen_fd; /* eventfd: --until text was printed */
    char line[1024];
    size_t line_len;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void on_console(void *opaque, const uint8_t *data, size_t len)
{
    struct tool *t = opaque;
    for (size_t i = 0; i < len; i++) {
        if (t->times && !t->line_begun)
            printf("[%8.3f] ", now() - t->start);
        t->line_begun = data[i] != '\n';
        putchar(data[i]);
        if (data[i] == '\n' || t->line_len == sizeof t->line - 1)
            t->line_len = 0;
        else
            t->line[t->line_len++] = (char)data[i];
        t->line[t->line_len] = 0;
        if (t->until && strstr(t->line, t->until))
            eventfd_write(t->seen_fd, 1);
    }
    fflush(stdout);
}

static void usage(void)
{
    fprintf(
        stderr,
        "usage: boot_tool [--engine soft|kvm] [--memory MIB] [--vcpus N] [--append TEXT] [--times] "
        "[--until TEXT] [--agent] [--timeout S] [--translate-all] KERNEL INITRAMFS [LAYER...]\n");
    exit(2);
}

/* Wait for what was asked for, or the end. True if it came. */
static bool watch(struct vm *vm, struct tool *t, bool agent, int timeout_ms)
{
    if (agent) {
        struct sm_error err = {0};
        if (vm_wait_agent(vm, timeout_ms, &err) != 0) {
            fprintf(stderr, "boot_tool: %s\n", err.text);
            return false;
        }
        fprintf(stderr, "\nboot_tool: the agent called after %.3f s\n", now() - t->start);
        return true;
    }
    struct pollfd p[2] = {{.fd = vm_end_fd(vm), .events = POLLIN},
                          {.fd = t->seen_fd, .events = POLLIN}};
    int n = poll(p, 2, timeout_ms);
    if (n == 0)
        fprintf(stderr, "\nboot_tool: time is up\n");
    if (n > 0 && p[1].revents)
        fprintf(stderr, "\nboot_tool: saw the text after %.3f s\n", now() - t->start);
    return n > 0 && p[1].revents;
}

static int boot(const struct vm_config *config, struct tool *t, bool agent, int timeout_ms)
{
    static const char *const ends[] = {
        [VM_RUNNING] = "running", [VM_END_STOPPED] = "stopped", [VM_END_POWEROFF] = "power-off",
        [VM_END_RESET] = "reset", [VM_END_PANIC] = "panic",     [VM_END_FAILED] = "failed",
    };
    struct vm *vm;
    struct sm_error err = {0};
    enum vm_end end;
    double built;
    t->start = now();
    if (vm_new(config, &vm, &err) != 0 || (built = now(), vm_start(vm, &err)) != 0) {
        fprintf(stderr, "boot_tool: %s\n", err.text);
        return 1;
    }
    bool came = watch(vm, t, agent, timeout_ms);
    double stopping = now();
    vm_stop(vm);
    vm_wait(vm, -1, &end, &err);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec / 1e6 +
                 (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec / 1e6;
    fprintf(stderr, "\nboot_tool: end: %s%s%s\n", ends[end], end == VM_END_FAILED ? ": " : "",
            end == VM_END_FAILED ? err.text : "");
    fprintf(
        stderr,
        "boot_tool: built in %.3f s, ran %.3f s, stopped in %.3f s; CPU %.3f s, peak RSS %ld MiB\n",
        built - t->start, stopping - built, now() - stopping, cpu, usage.ru_maxrss / 1024);
    vm_free(vm);
    return came || end == VM_END_POWEROFF ? 0 : 1;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"engine", required_argument, NULL, 'e'},
        {"memory", required_argument, NULL, 'm'},
        {"vcpus", required_argument, NULL, 'c'},
        {"append", required_argument, NULL, 'a'},
        {"until", required_argument, NULL, 'u'},
        {"timeout", required_argument, NULL, 's'},
        {"times", no_argument, NULL, 't'},
        {"agent", no_argument, NULL, 'g'},
        {"translate-all", no_argument, NULL, 'x'},
        {"console", no_argument, NULL, 'o'},
        {0},
    };
    struct tool tool = {.seen_fd = eventfd(0, EFD_CLOEXEC)};
    struct vm_config config = {.engine = &engine_soft,
                               .memory_bytes = 256ull << 20,
                               .vcpus = 1,
                               .console = on_console,
                               .console_opaque = &tool};
    bool agent = false;
    int c, timeout_ms = -1;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'm':
            config.memory_bytes = strtoull(optarg, NULL, 0) << 20;
            break;
        case 'e':
            config.engine = strcmp(optarg, "kvm") == 0 ? &engine_kvm : &engine_soft;
            break;
        case 'c':
            config.vcpus = (unsigned)strtoul(optarg, NULL, 0);
            break;
        case 'a':
            config.cmdline_extra = optarg;
            break;
        case 'u':
            tool.until = optarg;
            break;
        case 's':
            timeout_ms = (int)(atof(optarg) * 1000);
            break;
        case 't':
            tool.times = true;
            break;
        case 'g':
            agent = true;
            break;
        case 'x':
            config.translate = ENGINE_TRANSLATE_ALL;
            break;
        case 'o':
            break; /* the console is always shown */
        default:
            usage();
        }
    }
    if (argc - optind < 2)
        usage();
    config.kernel = argv[optind];
    config.initramfs = argv[optind + 1];
    config.layers = (const char *const *)&argv[optind + 2];
    config.n_layers = (unsigned)(argc - optind - 2);
    int rc = boot(&config, &tool, agent, timeout_ms);
    close(tool.seen_fd);
    return rc;
}
