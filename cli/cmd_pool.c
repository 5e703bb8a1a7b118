// SPDX-License-Identifier: Apache-2.0
/* supermachine pool start, ls, stop: VMs that are ready for `run --pool`. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "json.h"
#include "listener.h"
#include "pool_owner.h"
#include "pool_record.h"
#include "wire.h"

#define MIN_DEFAULT 2
#define MAX_DEFAULT 16
#define VMS_MAX 4096
#define SECONDS_MAX 86400

enum {
    OPT_MIN = MACHINE_OPT_END,
    OPT_MAX,
    OPT_IDLE,
    OPT_ACQUIRE,
    OPT_KEEP,
    OPT_INSECURE,
    OPT_JSON,
};

const struct opt pool_options[] = {
    {0, "min", "N", "have this many VMs at least, in use or ready (2)", OPT_MIN},
    {0, "max", "N", "and this many at most (16, or --min)", OPT_MAX},
    {0, "idle-timeout", "SECONDS", "end a VM above --min that nobody wanted for so long (60)",
     OPT_IDLE},
    {0, "acquire-timeout", "SECONDS", "let a `run` wait this long for a VM (30)", OPT_ACQUIRE},
    {0, "keep", NULL, "give a VM on as the last command left it, not restored", OPT_KEEP},
    MACHINE_OPTIONS,
    {0, "insecure-registry", "HOST[:PORT]", "it may speak http, or show any certificate",
     OPT_INSECURE},
    {0, "json", NULL, "of `ls`: print JSON", OPT_JSON},
    {0},
};

struct pool_args {
    struct pool_owner owner;
    size_t n_insecure;
    bool json, starting; /* an option of ls; of start */
    char **names;
};

/* ---- options */

static int number(const char *option, const char *value, unsigned long least, unsigned long most,
                  uint32_t *out)
{
    char *end;
    errno = 0;
    unsigned long n = strtoul(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end || errno || n < least || n > most)
        return say("pool: --%s %.60s: must be a number from %lu to %lu", option, value, least,
                   most);
    *out = (uint32_t)n;
    return 0;
}

static int seconds(const char *option, const char *value, uint32_t *ms)
{
    int bad = number(option, value, 1, SECONDS_MAX, ms);
    *ms *= 1000;
    return bad;
}

static int take(struct pool_args *a, int id, const char *value)
{
    struct sm_pool_config *c = &a->owner.config;
    a->starting = a->starting || id != OPT_JSON;
    switch (id) {
    case OPT_MIN:
        return number("min", value, 0, VMS_MAX, &c->min);
    case OPT_MAX:
        return number("max", value, 1, VMS_MAX, &c->max);
    case OPT_IDLE:
        return seconds("idle-timeout", value, &c->idle_ms);
    case OPT_ACQUIRE:
        return seconds("acquire-timeout", value, &c->acquire_ms);
    case OPT_KEEP:
        c->on_release = SM_POOL_KEEP;
        return 0;
    case OPT_INSECURE:
        return add_string(&a->owner.insecure, &a->n_insecure, value);
    case OPT_JSON:
        a->json = true;
        return 0;
    default:
        return machine_opts_take(&a->owner.machine, "pool", id, value);
    }
}

static int check(struct pool_args *a, bool min_given)
{
    struct sm_pool_config *c = &a->owner.config;
    if (!c->max)
        c->max = c->min > MAX_DEFAULT ? c->min : MAX_DEFAULT;
    if (!min_given && c->min > c->max)
        c->min = c->max;
    return c->min > c->max ? say("pool: --min %u is more than --max %u", c->min, c->max) : 0;
}

/* -1: go on; else the exit code. */
static int parse(struct pool_args *a, const struct cmd *cmd, char **argv)
{
    struct opts o;
    int id;
    bool min_given = false;
    a->owner.config = (struct sm_pool_config)SM_POOL_CONFIG_INIT;
    a->owner.config.min = MIN_DEFAULT;
    opts_init(&o, cmd, argv);
    if (argv[1] && argv[1][0] != '-')
        o.next = 2;
    while ((id = opts_next(&o)) >= 0) {
        min_given = min_given || id == OPT_MIN;
        if (take(a, id, o.value) != 0)
            return EXIT_OURS;
    }
    a->names = argv + o.next;
    if (id != OPTS_END)
        return id == OPTS_HELP ? 0 : EXIT_OURS;
    return check(a, min_given) ? EXIT_OURS : -1;
}

/* ---- start */

static int start(struct pool_args *a)
{
    struct pool_owner *p = &a->owner;
    p->image = pool_image_ref(a->names[0]);
    p->detach = (struct detach){.command = "pool", .shown = a->names[0], .ready = -1};
    if (!p->image)
        return say("pool: out of memory");
    /* The process leaves this folder, and starts VMs later, too. */
    if (p->machine.kernel && !(p->kernel = realpath(p->machine.kernel, NULL)))
        return say("pool: --kernel %.200s: %s", p->machine.kernel, strerror(errno));
    p->machine.kernel = p->kernel;
    int code = detach_fork(&p->detach);
    return code == DETACH_CHILD ? pool_own(p) : code;
}

/* ---- ls */

struct listing {
    bool json;
    size_t n;
};

/* False: nobody answers. */
static bool ask_stats(const struct record *r, uint64_t numbers[WIRE_STATS_NUMBERS])
{
    struct wire w = {.type = WIRE_STATS}, reply = {0};
    size_t at = 0;
    int fd = listener_connect(r);
    bool good = fd >= 0 && wire_send(fd, &w) == 0 && wire_receive(fd, &reply) == 0 &&
                reply.type == WIRE_DONE && wire_next(&reply, &at);
    for (unsigned i = 0; i < WIRE_STATS_NUMBERS && good; i++) {
        const char *text = wire_next(&reply, &at);
        good = text != NULL;
        numbers[i] = good ? strtoull(text, NULL, 10) : 0;
    }
    wire_fini(&reply);
    if (fd >= 0)
        close(fd);
    return good;
}

static void show_json(const struct record_info *info, const char *status, bool runs,
                      const uint64_t numbers[WIRE_STATS_NUMBERS])
{
    static const char *const names[WIRE_STATS_NUMBERS] = {
        "ready",   "used",   "starting", "waiting", "acquired",
        "started", "failed", "expired",  "min",     "max"};
    put_member("image", info->image);
    printf(", ");
    put_member("status", status);
    printf(", \"created\": %" PRId64 ", \"pid\": %d", info->created_s, runs ? (int)info->owner : 0);
    for (unsigned i = 0; i < WIRE_STATS_NUMBERS; i++)
        printf(", \"%s\": %" PRIu64, names[i], numbers[i]);
    printf("}");
}

static int show(void *opaque, struct record *r)
{
    struct listing *l = opaque;
    struct record_info info;
    uint64_t numbers[WIRE_STATS_NUMBERS] = {0};
    int code;
    if (record_read(r, &info) != 0) {
        record_info_fini(&info);
        return 0;
    }
    bool answers = ask_stats(r, numbers);
    enum record_state state = answers ? RECORD_RUNNING : record_state(r, &code);
    bool lost = state == RECORD_LOST || state == RECORD_ENDED;
    const char *status = answers ? "running" : lost ? "lost" : "starting";
    if (l->json) {
        printf("%s\n  {", l->n ? "," : "");
        show_json(&info, status, !lost, numbers);
    } else {
        if (!l->n)
            printf("%-32s %-9s %6s %6s %6s %6s %9s  %s\n", "IMAGE", "STATUS", "READY", "USED",
                   "MIN", "MAX", "COMMANDS", "PROCESS");
        printf("%-32s %-9s %6" PRIu64 " %6" PRIu64 " %6" PRIu64 " %6" PRIu64 " %9" PRIu64 "  %d\n",
               info.image, status, numbers[0], numbers[1], numbers[8], numbers[9], numbers[4],
               lost ? 0 : (int)info.owner);
    }
    l->n++;
    record_info_fini(&info);
    return 0;
}

static int list(sm_store *store, const struct pool_args *a)
{
    struct listing l = {.json = a->json};
    if (l.json)
        printf("[");
    record_each(sm_store_path(store), RECORD_POOLS, show, &l);
    if (l.json)
        printf("%s]\n", l.n ? "\n" : "");
    else if (!l.n)
        printf("no pools\n");
    return 0;
}

/* ---- stop */

static int stop_one(sm_store *store, const char *image)
{
    struct wire ask = {.type = WIRE_STOP};
    struct record r;
    int state_code;
    if (pool_record_open(&r, "pool", store, image) != 0)
        return EXIT_OURS;
    int code = 0, fd = listener_connect(&r);
    int rc = fd < 0 ? errno : wire_send(fd, &ask);
    enum record_state state = record_state(&r, &state_code);
    bool lost = state == RECORD_LOST || state == RECORD_ENDED;
    if (rc && !lost)
        code = pool_record_unreachable(&r, "pool", image, rc);
    if (!rc)
        lost = record_wait(&r, &state_code) == RECORD_LOST;
    if (!code && lost)
        record_remove(&r); /* what a killed process left */
    if (!code)
        puts(image);
    if (fd >= 0)
        close(fd);
    record_close(&r);
    return code;
}

static int stop(sm_store *store, char **images)
{
    int code = 0;
    for (; *images; images++)
        code = stop_one(store, *images) ? EXIT_OURS : code;
    return code;
}

int cmd_pool(const struct cmd *cmd, int argc, char **argv)
{
    struct pool_args a = {0};
    struct sm_error err = {0};
    sm_store *store = NULL;
    const char *what = argc > 1 ? argv[1] : "";
    int code = parse(&a, cmd, argv);
    char **names = a.names;
    bool is_start = strcmp(what, "start") == 0, is_ls = strcmp(what, "ls") == 0,
         is_stop = strcmp(what, "stop") == 0;
    if (code >= 0)
        ;
    else if (is_start && !a.json && names[0] && !names[1])
        code = start(&a);
    else if ((!is_ls || names[0]) && (!is_stop || a.json || !names[0]))
        code = say("pool: must be start [OPTION...] IMAGE, ls [--json] or stop IMAGE...; see "
                   "`supermachine help pool`");
    else if (a.starting)
        code = say("pool: %s takes no options of `pool start`", what);
    else if (sm_store_open(NULL, &store, &err))
        code = say("pool: %s", err.text);
    else
        code = is_ls ? list(store, &a) : stop(store, names);
    sm_store_free(store);
    free(a.owner.insecure);
    free(a.owner.image);
    free(a.owner.kernel);
    return code;
}
