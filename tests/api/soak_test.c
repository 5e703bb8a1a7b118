// SPDX-License-Identifier: Apache-2.0
/*
 * Many restores: each one right, each one different, and nothing left of any. A few by default;
 * SM_LONG=1: 1000 in a row, and 50 at once for 20 rounds.
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api_fixture.h"

#define FACTS 5
#define FACT_SIZE 64
#define AT_ONCE_MAX 50

/* What no two machines may have in common; one line each. */
static const char ask[] = "od -An -N16 -tx1 /dev/urandom; od -An -N16 -tx1 /dev/random;"
                          "cat /proc/sys/kernel/random/uuid; cat /etc/machine-id; hostname";
static const char *const names[FACTS] = {"/dev/urandom", "/dev/random", "uuid", "machine-id",
                                         "host name"};

struct soak {
    struct fixture f;
    unsigned in_a_row, at_once, rounds, first_rounds;
    long arena_kib; /* of memory beyond 1 %, for VMs at once; long: none */
};

/* What a VM takes of this process and of the host. */
struct use {
    unsigned fds, threads, files;
    long rss_kib, code_kib; /* code_kib: of rss_kib, what is mapped of files */
};

static int set_up(void **state)
{
    static struct soak s;
    bool lasting = getenv("SM_LONG") != NULL;
    s.in_a_row = lasting ? 1000 : 20;
    s.at_once = lasting ? AT_ONCE_MAX : 10;
    s.rounds = lasting ? 20 : 1;
    s.first_rounds = lasting ? 10 : 1; /* until arenas and kept stacks were at their most */
    s.arena_kib = lasting ? 0 : 256;   /* for those that were not */
    *state = &s;
    return fixture_open(&s.f);
}

static int tear_down(void **state)
{
    struct soak *s = *state;
    return fixture_close(&s->f);
}

static unsigned entries(const char *path, bool deep)
{
    unsigned n = 0;
    DIR *dir = opendir(path);
    for (struct dirent *d; dir && (d = readdir(dir));) {
        char sub[512];
        if (d->d_name[0] == '.')
            continue;
        n++;
        if (deep && d->d_type == DT_DIR && snprintf(sub, sizeof sub, "%s/%s", path, d->d_name) > 0)
            n += entries(sub, true);
    }
    if (dir)
        closedir(dir);
    return n;
}

static struct use look(const struct soak *s)
{
    struct use u = {.fds = entries("/proc/self/fd", false),
                    .threads = entries("/proc/self/task", false),
                    .files = entries(s->f.home, true)};
    char line[128];
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f)) {
        sscanf(line, "VmRSS: %ld", &u.rss_kib);
        sscanf(line, "RssFile: %ld", &u.code_kib);
    }
    if (f)
        fclose(f);
    return u;
}

static void expect_as_before(const struct soak *s, const struct use *before, long slack_kib)
{
    struct use now = look(s);
    /* Code is mapped 64 KiB at a time when it is first run, however late: it is no VM's. */
    long grown = now.rss_kib - now.code_kib - (before->rss_kib - before->code_kib);
    print_message(
        "%u descriptors, before %u; %ld KiB resident, %ld KiB (%.2f %%) more than before\n",
        now.fds, before->fds, now.rss_kib, grown, 100.0 * grown / before->rss_kib);
    assert_int_equal(now.fds, before->fds);
    assert_int_equal(now.files, before->files);
    errno = 0;
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left, dead or alive */
    assert_int_equal(errno, ECHILD);
#ifndef __SANITIZE_ADDRESS__ /* which keeps what was freed, and a thread */
    assert_int_equal(now.threads, before->threads);
    if (grown > before->rss_kib / 100 + slack_kib)
        fail_msg("%ld KiB more than before", grown);
#endif
}

/* One VM, from its start to its end. */
static void live(struct soak *s, char facts[FACTS][FACT_SIZE])
{
    struct sm_output out;
    sm_vm *vm = start(&s->f, NULL);
    output(vm, ask, &out);
    assert_int_equal(out.outcome.code, 0);
    char *rest = out.out;
    for (int i = 0; i < FACTS; i++) {
        char *line = strsep(&rest, "\n");
        assert_non_null(line);
        assert_true(strlen(line) >= 12);
        snprintf(facts[i], FACT_SIZE, "%s", line);
    }
    assert_string_equal(rest, "");
    sm_output_fini(&out);
    sm_vm_free(vm);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void expect_distinct(char (*facts)[FACTS][FACT_SIZE], unsigned n)
{
    char(*column)[FACT_SIZE] = calloc(n, FACT_SIZE);
    assert_non_null(column);
    for (int i = 0; i < FACTS; i++) {
        for (unsigned k = 0; k < n; k++)
            strcpy(column[k], facts[k][i]);
        qsort(column, n, FACT_SIZE, by_text);
        for (unsigned k = 1; k < n; k++)
            if (strcmp(column[k - 1], column[k]) == 0)
                fail_msg("two of %u VMs have the same %s: %s", n, names[i], column[k]);
    }
    free(column);
}

/* Room for what n VMs say; it is resident before anything is measured. */
static char (*new_facts(unsigned n))[FACTS][FACT_SIZE]
{
    char(*facts)[FACTS][FACT_SIZE] = calloc(n, sizeof *facts);
    assert_non_null(facts);
    memset(facts, '?', n * sizeof *facts);
    return facts;
}

static void test_in_a_row(void **state)
{
    struct soak *s = *state;
    char(*facts)[FACTS][FACT_SIZE] = new_facts(s->in_a_row);
    for (unsigned i = 0; i < 5 && i < s->in_a_row; i++) /* the first makes the snapshot */
        live(s, facts[i]);
    struct use before = look(s);
    for (unsigned i = 0; i < s->in_a_row; i++)
        live(s, facts[i]);
    expect_as_before(s, &before, 0);
    expect_distinct(facts, s->in_a_row);
    free(facts);
}

struct liver {
    pthread_t thread;
    struct soak *soak;
    char (*facts)[FACT_SIZE];
};

static void *run_one(void *opaque)
{
    struct liver *l = opaque;
    live(l->soak, l->facts);
    return NULL;
}

static void all_at_once(struct soak *s, char (*facts)[FACTS][FACT_SIZE])
{
    struct liver livers[AT_ONCE_MAX];
    for (unsigned i = 0; i < s->at_once; i++) {
        livers[i] = (struct liver){.soak = s, .facts = facts[i]};
        assert_int_equal(pthread_create(&livers[i].thread, NULL, run_one, &livers[i]), 0);
    }
    for (unsigned i = 0; i < s->at_once; i++)
        pthread_join(livers[i].thread, NULL);
}

static void test_at_once(void **state)
{
    struct soak *s = *state;
    unsigned total = s->first_rounds + s->rounds;
    char(*facts)[FACTS][FACT_SIZE] = new_facts(s->at_once * total);
    for (unsigned i = 0; i < s->first_rounds; i++)
        all_at_once(s, facts + i * s->at_once);
    struct use before = look(s);
    for (unsigned i = s->first_rounds; i < total; i++)
        all_at_once(s, facts + i * s->at_once);
    expect_as_before(s, &before, s->arena_kib);
    expect_distinct(facts, s->at_once * total);
    free(facts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_a_row),
        cmocka_unit_test(test_at_once),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
