// SPDX-License-Identifier: Apache-2.0
/*
 * Clones of a machine that ran: each is another one, and all of them are in the present, though the
 * snapshot is ten days old by its guest's clock. 64; SM_LONG=1: 1000.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api_fixture.h"

#define FACT_SIZE 80
#define AGE_S (10 * 86400)
#define CLOCK_SLACK_S 3

/* What no two clones may have in common; a line each. */
static const struct {
    const char *name, *command;
} facts[] = {
    {"getrandom(), AT_RANDOM and the stack's place in a new process", "/identity"},
    {"getrandom() in a process that was there before", "head -n 1 /stay"},
    {"/dev/urandom", "od -An -N16 -tx1 /dev/urandom"},
    {"/dev/random", "od -An -N16 -tx1 /dev/random"},
    {"uuid", "cat /proc/sys/kernel/random/uuid"},
    {"boot id", "cat /proc/sys/kernel/random/boot_id"},
    {"machine id", "cat /etc/machine-id"},
    {"host name", "hostname"},
    {"temporary name", "mktemp -u"},
};
#define COMMANDS (sizeof facts / sizeof facts[0])
#define FACTS (COMMANDS + 2) /* the first prints three lines */

struct clones {
    struct fixture f;
    sm_image *snapshot;
    unsigned n;
};

static void shell(sm_vm *vm, const char *command)
{
    struct sm_output out;
    output(vm, command, &out);
    if (out.outcome.code != 0)
        fail_msg("%s: %s", command, out.err);
    sm_output_fini(&out);
}

static void put_program(sm_vm *vm)
{
    struct sm_file_spec spec = SM_FILE_SPEC_INIT;
    struct sm_error err = {0};
    spec.path = "/identity";
    spec.mode = 0755;
    spec.fd = open(getenv("SM_IDENTITY"), O_RDONLY | O_CLOEXEC);
    assert_true(spec.fd >= 0);
    if (sm_vm_write_file(vm, &spec, 60000, &err) != 0)
        fail_msg("%s", err.text);
    close(spec.fd);
}

static int set_up(void **state)
{
    static struct clones c;
    char folder[96], command[128];
    struct sm_error err = {0};
    *state = &c;
    c.n = getenv("SM_LONG") ? 1000 : 64;
    if (fixture_open(&c.f))
        return -1;
    sm_vm *vm = start(&c.f, NULL);
    put_program(vm);
    shell(vm, "/identity stay /stay >/dev/null 2>&1 </dev/null & "
              "until [ -p /stay ]; do sleep 0.05; done; head -n 1 /stay");
    snprintf(command, sizeof command, "date -s @$(($(date +%%s) - %d))", AGE_S);
    shell(vm, command);
    snprintf(folder, sizeof folder, "%s/aged", c.f.home);
    if (sm_vm_snapshot(vm, folder, NULL, &err) ||
        sm_image_from_snapshot(c.f.store, folder, &c.snapshot, &err)) {
        print_error("%s\n", err.text);
        return -1;
    }
    sm_vm_free(vm);
    return 0;
}

static int tear_down(void **state)
{
    struct clones *c = *state;
    sm_image_free(c->snapshot);
    return fixture_close(&c->f);
}

/* The n-th line of a text that is taken apart. */
static void take_line(char **rest, char line[FACT_SIZE])
{
    char *text = strsep(rest, "\n");
    assert_non_null(text);
    assert_true(strlen(text) >= 12);
    snprintf(line, FACT_SIZE, "%s", text);
}

static void ask(sm_vm *vm, char lines[FACTS][FACT_SIZE])
{
    char command[1024] = "";
    struct sm_output out;
    for (size_t i = 0; i < COMMANDS; i++) {
        strcat(command, facts[i].command);
        strcat(command, ";");
    }
    output(vm, command, &out);
    char *rest = out.out;
    for (size_t i = 0; i < FACTS; i++)
        take_line(&rest, lines[i]);
    assert_string_equal(rest, "");
    sm_output_fini(&out);
}

static const char *name_of(size_t fact)
{
    return facts[fact < 3 ? 0 : fact - 2].name;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void expect_distinct(char (*seen)[FACTS][FACT_SIZE], unsigned n)
{
    char(*column)[FACT_SIZE] = calloc(n, FACT_SIZE);
    assert_non_null(column);
    for (size_t i = 0; i < FACTS; i++) {
        for (unsigned k = 0; k < n; k++)
            strcpy(column[k], seen[k][i]);
        qsort(column, n, FACT_SIZE, by_text);
        for (unsigned k = 1; k < n; k++)
            if (strcmp(column[k - 1], column[k]) == 0)
                fail_msg("two of %u clones have the same %s: %s", n, name_of(i), column[k]);
    }
    free(column);
}

static void test_distinct(void **state)
{
    struct clones *c = *state;
    char(*seen)[FACTS][FACT_SIZE] = calloc(c->n, sizeof *seen);
    assert_non_null(seen);
    for (unsigned i = 0; i < c->n; i++) {
        sm_vm *vm = start_image(c->snapshot, NULL);
        ask(vm, seen[i]);
        sm_vm_free(vm);
    }
    expect_distinct(seen, c->n);
    free(seen);
}

/* The first thing that a command sees is today; the time of boot fits it. */
static void test_clock(void **state)
{
    struct clones *c = *state;
    struct sm_output out;
    long long now, btime;
    double up;
    for (int i = 0; i < 3; i++) {
        sm_vm *vm = start_image(c->snapshot, NULL);
        time_t before = time(NULL);
        output(vm, "date +%s; sed -n 's/^btime //p' /proc/stat; cut -d' ' -f1 /proc/uptime", &out);
        time_t after = time(NULL);
        assert_int_equal(sscanf(out.out, "%lld\n%lld\n%lf", &now, &btime, &up), 3);
        assert_in_range(now, before - CLOCK_SLACK_S, after + CLOCK_SLACK_S);
        assert_in_range(btime + (long long)up, now - CLOCK_SLACK_S, now + CLOCK_SLACK_S);
        assert_true(up < 3600); /* it has not run for ten days */
        sm_output_fini(&out);
        sm_vm_free(vm);
    }
}

/* There is no network card whose address could be the same; once there is, it belongs above. */
static void test_no_address(void **state)
{
    struct clones *c = *state;
    struct sm_output out;
    sm_vm *vm = start_image(c->snapshot, NULL);
    output(vm, "ls /sys/class/net", &out);
    assert_string_equal(out.out, "lo\n");
    sm_output_fini(&out);
    sm_vm_free(vm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distinct),
        cmocka_unit_test(test_clock),
        cmocka_unit_test(test_no_address),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
