// SPDX-License-Identifier: Apache-2.0
/*
 * oracle [--cpu v2|v3] [--cases N] [--seed S|time] [--first I] [--max-failed N] [--rows]
 *        [--excluded] [--verbose]
 *
 * Random user-mode instructions, alone and in short sequences, on the host CPU (oracle_host) and in
 * the software engine: registers, flags, memory, FP state and faults must agree. Case I of seed S
 * is always the same, so `oracle --seed S --first I --cases 1` shows a failure again. Exit: 0 when
 * all agree, 1 on a difference, 77 where it cannot run.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cpu/engine.h"
#include "cpu/model.h"
#include "oracle_diff.h"
#include "oracle_gen.h"
#include "oracle_soft.h"

#define HANG_SECONDS 20

struct oracle {
    struct oc_shared *shared;
    struct oracle_soft *soft;
    struct gen gen;
    pid_t child;
    int requests, replies;
    uint64_t seed, cases, first;
    uint64_t failed, max_failed;
    const char *cpu; /* model; NULL: the highest */
    bool rows;
    bool verbose;
    bool excluded;
    bool translate;
};

/* Of a case in the engine. */
struct outcome {
    int rc;
    struct oc_result result;
    struct sm_error err;
};

/* Signal handlers have no other way to the engine and its case. */
static struct {
    struct oracle_soft *soft;
    uint64_t seed, number;
} running;

static void on_alarm(int sig)
{
    if (running.soft) {
        oracle_soft_interrupt(running.soft);
    }
}

#ifndef __SANITIZE_ADDRESS__ /* which has a report of its own */
/* The engine itself failed: name the case, then die of it. */
static void on_crash(int sig)
{
    char text[160];
    int n = snprintf(text, sizeof text,
                     "FAIL signal %d in the engine: oracle --seed %" PRIu64 " --first %" PRIu64
                     " --cases 1\n",
                     sig, running.seed, running.number);
    if (write(STDOUT_FILENO, text, (size_t)n) != n) {
        _exit(1);
    }
    signal(sig, SIG_DFL);
}
#endif

static void catch_signals(void)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGALRM, on_alarm);
#ifndef __SANITIZE_ADDRESS__
    static const int sigs[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
    for (unsigned i = 0; i < sizeof sigs / sizeof *sigs; i++) {
        signal(sigs[i], on_crash);
    }
#endif
}

static int start_host(struct oracle *o)
{
    const char *dir = getenv("SM_ORACLE_HOST");
    char path[4096], fds[3][16];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 8);
    int to[2], from[2], fd = memfd_create("oracle_shared", 0);
    if (n <= 0 || fd < 0 || ftruncate(fd, sizeof *o->shared) != 0 || pipe(to) || pipe(from)) {
        return -1;
    }
    snprintf(path + n, 8, "_host");
    o->shared = mmap(NULL, sizeof *o->shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (o->shared == MAP_FAILED) {
        return -1;
    }
    o->gen.state = o->seed;
    memset(o->shared->pristine, 0xcc, OC_CODE_BYTES);
    o->shared->avx = (o->gen.model & INSN_FEATURE(IFT_AVX)) != 0;
    for (unsigned i = OC_CODE_BYTES; i < OC_IMAGE; i += 16) {
        gen_value(&o->gen, o->shared->pristine + i);
    }
    snprintf(fds[0], sizeof fds[0], "%d", fd);
    snprintf(fds[1], sizeof fds[1], "%d", to[0]);
    snprintf(fds[2], sizeof fds[2], "%d", from[1]);
    o->child = fork();
    if (o->child == 0) {
        close(to[1]);
        close(from[0]);
        execl(dir ? dir : path, "oracle_host", fds[0], fds[1], fds[2], (char *)NULL);
        _exit(6);
    }
    close(to[0]);
    close(from[1]);
    close(fd);
    o->requests = to[1];
    o->replies = from[0];
    return o->child < 0 ? -1 : 0;
}

/* Wait for the host's side of the batch. */
static int wait_host(struct oracle *o, uint64_t base)
{
    struct pollfd p = {.fd = o->replies, .events = POLLIN};
    char byte;
    int ready;
    do {
        ready = poll(&p, 1, HANG_SECONDS * 1000);
    } while (ready < 0 && errno == EINTR);
    if (ready == 1 && read(o->replies, &byte, 1) == 1) {
        return 0;
    }
    int status = 0;
    kill(o->child, SIGKILL);
    waitpid(o->child, &status, 0);
    o->child = 0;
    printf("FAIL the host's side %s in case %" PRIu64 " (status %#x)\n", ready ? "died" : "hangs",
           base + o->shared->running, (unsigned)status);
    static const struct oc_result none;
    oracle_show(stdout, &o->shared->cases[o->shared->running], &none, &none);
    return -1;
}

static void judge(struct oracle *o, uint64_t number, unsigned k, const struct outcome *out)
{
    const struct oc_result *soft = &out->result;
    const struct oc_case *c = &o->shared->cases[k];
    const struct oc_result *host = &o->shared->results[k];
    const char *what = out->rc ? out->err.text : oracle_differ(c, o->shared->pristine, soft, host);
    if (what) {
        o->failed++;
        printf("FAIL case %" PRIu64 ": %s\n", number, what);
    }
    if (what || o->verbose) {
        oracle_show(stdout, c, soft, host);
        printf("  again: oracle --seed %" PRIu64 " --first %" PRIu64 " --cases 1\n\n", o->seed,
               number);
    }
}

static int run_batch(struct oracle *o, uint64_t base, unsigned n, struct outcome *outs)
{
    for (unsigned k = 0; k < n; k++) {
        gen_case(&o->gen, base + k, &o->shared->cases[k]);
    }
    o->shared->n = n;
    if (write(o->requests, "", 1) != 1) {
        return -1;
    }
    struct itimerval alarm_in = {.it_value.tv_sec = HANG_SECONDS}, off = {0};
    setitimer(ITIMER_REAL, &alarm_in, NULL);
    for (unsigned k = 0; k < n; k++) {
        running.number = base + k;
        memset(&outs[k].result, 0, sizeof outs[k].result);
        outs[k].rc = oracle_soft_run(o->soft, &o->shared->cases[k], &outs[k].result, &outs[k].err);
    }
    setitimer(ITIMER_REAL, &off, NULL);
    if (wait_host(o, base) != 0) {
        o->failed++;
        return -1;
    }
    for (unsigned k = 0; k < n; k++) {
        judge(o, base + k, k, &outs[k]);
    }
    return 0;
}

static void show_rows(const struct oracle *o)
{
    unsigned never = 0;
    for (unsigned i = 0; i < o->gen.n_rows; i++) {
        const struct gen_row *r = &o->gen.rows[i];
        if (r->ran == 0) {
            printf("never ran: %s map %u opcode %02x prefix %02x sub %d\n", r->desc->name, r->map,
                   r->opcode, r->prefix, r->sub);
            never++;
        }
    }
    printf("%u rows, %u of them never ran\n", o->gen.n_rows, never);
}

static int run(struct oracle *o)
{
    struct outcome *outs = calloc(OC_BATCH, sizeof *outs);
    struct timespec t0, t1;
    uint64_t done = 0;
    int rc = outs ? 0 : -1;
    clock_gettime(CLOCK_MONOTONIC, &t0);
    while (rc == 0 && done < o->cases && o->failed < o->max_failed) {
        unsigned n = o->cases - done < OC_BATCH ? (unsigned)(o->cases - done) : OC_BATCH;
        rc = run_batch(o, o->first + done, n, outs);
        done += n;
    }
    free(outs);
    clock_gettime(CLOCK_MONOTONIC, &t1);
    double s = (double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) / 1e9;
    printf("seed %" PRIu64 ": %" PRIu64 " cases, %" PRIu64 " differences, %.1f s, %.0f cases/s\n",
           o->seed, done, o->failed, s, (double)done / s);
    return rc || o->failed ? 1 : 0;
}

static int parse(struct oracle *o, int argc, char **argv)
{
    static const struct option options[] = {
        {"cpu", required_argument, NULL, 'p'},        {"cases", required_argument, NULL, 'c'},
        {"seed", required_argument, NULL, 's'},       {"first", required_argument, NULL, 'f'},
        {"max-failed", required_argument, NULL, 'm'}, {"rows", no_argument, NULL, 'r'},
        {"excluded", no_argument, NULL, 'x'},         {"verbose", no_argument, NULL, 'v'},
        {"translate", no_argument, NULL, 't'},        {0},
    };
    int opt;
    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (opt) {
        case 'p':
            o->cpu = optarg;
            break;
        case 'c':
            o->cases = strtoull(optarg, NULL, 0);
            break;
        case 's':
            o->seed = strcmp(optarg, "time") ? strtoull(optarg, NULL, 0) : (uint64_t)time(NULL);
            break;
        case 'f':
            o->first = strtoull(optarg, NULL, 0);
            break;
        case 'm':
            o->max_failed = strtoull(optarg, NULL, 0);
            break;
        case 'r':
            o->rows = true;
            break;
        case 't':
            o->translate = true;
            break;
        case 'v':
            o->verbose = true;
            break;
        case 'x':
            o->excluded = true;
            break;
        default:
            return -1;
        }
    }
    return optind == argc ? 0 : -1;
}

int main(int argc, char **argv)
{
    struct oracle *o = calloc(1, sizeof *o);
    struct sm_error err = {0};
    if (!o) {
        return 1;
    }
    o->seed = 1;
    o->cases = 100000;
    o->max_failed = 1;
    if (parse(o, argc, argv) != 0) {
        fprintf(
            stderr,
            "usage: oracle [--cpu v2|v3] [--cases N] [--seed S|time] [--first I] [--max-failed N] "
            "[--rows] [--excluded] [--verbose] [--translate]\n");
        return 2;
    }
    enum model_id id;
    if (model_choose(o->cpu, &id, &err)) {
        printf("SKIP: %s\n", err.text);
        return 77;
    }
    uint64_t model = id >= MODEL_V3 ? INSN_MODEL_V3 : INSN_MODEL_V2;
    if (o->excluded) {
        gen_list_excluded(model, stdout);
        return 0;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    catch_signals();
    gen_init(&o->gen, o->seed, model);
    o->gen.more_sequences = o->translate;
    if (start_host(o) != 0 ||
        oracle_soft_new(o->shared->pristine, model_name(id), o->translate, &o->soft, &err) != 0) {
        printf("FAIL cannot start: %s %s\n", err.text, strerror(errno));
        return 1;
    }
    running.soft = o->soft;
    running.seed = o->seed;
    int rc = run(o);
    if (o->rows) {
        show_rows(o);
    }
    running.soft = NULL;
    close(o->requests);
    if (o->child > 0) {
        waitpid(o->child, NULL, 0);
    }
    oracle_soft_free(o->soft);
    free(o);
    return rc;
}
