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
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "cpu/engine.h"
#include "cpu/model.h"
#include "oracle_child.h"
#include "oracle_diff.h"
#include "oracle_gen.h"
#include "oracle_soft.h"

#define HANG_SECONDS 20

struct oracle {
    struct oc_shared *shared; /* the child's */
    struct oracle_soft *soft;
    struct gen gen;
    struct oracle_child child;
    uint64_t seed, cases, first;
    uint64_t failed, max_failed;
    uint64_t endless; /* cases that end on neither side */
    const char *cpu;  /* model; NULL: the highest */
    bool rows;
    bool verbose;
    bool excluded;
    bool translate;
};

/* Of a case in the engine. */
struct outcome {
    int rc;
    bool endless; /* on the host too */
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

static int make_shared(struct oracle *o)
{
    if (child_new(&o->child) != 0) {
        return -1;
    }
    struct oc_shared *shared = o->shared = o->child.shared;
    o->gen.state = o->seed;
    memset(shared->pristine, 0xcc, OC_CODE_BYTES);
    shared->avx = (o->gen.model & INSN_FEATURE(IFT_AVX)) != 0;
    for (unsigned i = OC_CODE_BYTES; i < OC_IMAGE; i += 16) {
        gen_value(&o->gen, shared->pristine + i);
    }
    return 0;
}

/* Wait for the host's side of the batch. A case that changes its own code may go on for ever there:
 * then it must here too, and the batch goes on behind it. */
static int wait_host(struct oracle *o, uint64_t base, struct outcome *outs)
{
    for (;;) {
        enum child_end end = child_wait(&o->child, HANG_SECONDS);
        unsigned k = o->shared->running, n = o->shared->n;
        if (end == CHILD_DONE) {
            return 0;
        }
        if (end == CHILD_DIED || outs[k].rc != SM_ETIMEDOUT) {
            printf("FAIL the host's side %s in case %" PRIu64 "\n",
                   end == CHILD_DIED ? "died" : "does not end, the engine does,", base + k);
            oracle_show(stdout, &o->shared->cases[k], &outs[k].result, &outs[k].result);
            return -1;
        }
        outs[k].endless = true;
        if (k + 1 == n) {
            return 0;
        }
        if (child_ask(&o->child, k + 1, n) != 0) {
            return -1;
        }
    }
}

static void judge(struct oracle *o, uint64_t number, unsigned k, const struct outcome *out)
{
    const struct oc_result *soft = &out->result;
    const struct oc_case *c = &o->shared->cases[k];
    const struct oc_result *host = &o->shared->results[k];
    if (out->endless) {
        o->endless++;
        return;
    }
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
    if (child_ask(&o->child, 0, n) != 0) {
        return -1;
    }
    struct itimerval alarm_in = {{HANG_SECONDS, 0}, {HANG_SECONDS, 0}}, off = {0};
    setitimer(ITIMER_REAL, &alarm_in, NULL);
    for (unsigned k = 0; k < n; k++) {
        running.number = base + k;
        memset(&outs[k], 0, sizeof outs[k]);
        outs[k].rc = oracle_soft_run(o->soft, &o->shared->cases[k], &outs[k].result, &outs[k].err);
    }
    setitimer(ITIMER_REAL, &off, NULL);
    if (wait_host(o, base, outs) != 0) {
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
    printf("seed %" PRIu64 ": %" PRIu64 " cases, %" PRIu64 " differences, %" PRIu64
           " endless, %.1f s, %.0f cases/s\n",
           o->seed, done, o->failed, o->endless, s, (double)done / s);
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
    if (make_shared(o) != 0 ||
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
    child_end(&o->child);
    oracle_soft_free(o->soft);
    free(o);
    return rc;
}
