// SPDX-License-Identifier: Apache-2.0
/* supermachine images, rmi, gc, verify, inspect: what the store has. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "json.h"

enum { OPT_JSON = 1, OPT_REPAIR, OPT_INSECURE };

const struct opt json_options[] = {
    {0, "json", NULL, "print JSON", OPT_JSON},
    {0},
};
const struct opt verify_options[] = {
    {0, "repair", NULL, "remove what is damaged, and make or pull it again", OPT_REPAIR},
    {0, "insecure-registry", "HOST[:PORT]", "it may speak http, or show any certificate",
     OPT_INSECURE},
    {0, "json", NULL, "print JSON", OPT_JSON},
    {0},
};

struct given {
    bool json, repair;
    const char **insecure; /* owned */
    size_t n_insecure;
    char **args;
    int code;
};

/* 0 when there is something left to do; else g->code is the exit code. args: how many are allowed.
 */
static int take(struct given *g, const struct cmd *cmd, char **argv, int least, int most)
{
    struct opts o;
    int id, n = 0;
    *g = (struct given){.code = EXIT_OURS};
    opts_init(&o, cmd, argv);
    while ((id = opts_next(&o)) >= 0) {
        g->json |= id == OPT_JSON;
        g->repair |= id == OPT_REPAIR;
        if (id == OPT_INSECURE && add_string(&g->insecure, &g->n_insecure, o.value))
            return -1;
    }
    g->args = argv + o.next;
    while (id == OPTS_END && g->args[n])
        n++;
    if (id == OPTS_HELP)
        g->code = 0;
    else if (id == OPTS_END && (n < least || n > most))
        say("%s: %s; see `supermachine help %s`", cmd->name,
            n < least ? "no image given" : "too many arguments", cmd->name);
    else if (id == OPTS_END)
        return 0;
    return -1;
}

/* One command on the store: take() what is given, then this, which returns the exit code. */
typedef int work_fn(const struct given *g, sm_store *store);

static int on_store(const struct cmd *cmd, char **argv, int least, int most, work_fn *work)
{
    struct given g;
    struct sm_error err = {0};
    sm_store *store = NULL;
    if (take(&g, cmd, argv, least, most) == 0)
        g.code = sm_store_open(NULL, &store, &err) ? say("%s: %s", cmd->name, err.text)
                                                   : work(&g, store);
    sm_store_free(store);
    free(g.insecure);
    return g.code;
}

static double mib(uint64_t bytes)
{
    return (double)bytes / 1048576;
}

struct listing {
    bool json;
    size_t n;
};

static int print_image(void *opaque, const struct sm_image_info *i)
{
    struct listing *l = opaque;
    if (l->json) {
        printf("%s\n  {\"name\": ", l->n++ ? "," : "");
        put_string(i->name);
        printf(", \"digest\": \"%s\", \"id\": \"%s\", \"added\": %" PRId64
               ", \"layers\": %u, \"layer_bytes\": %" PRIu64 ", \"download_bytes\": %" PRIu64
               ", \"complete\": %s}",
               i->digest, i->id, i->added_s, i->layers, i->layer_bytes, i->download_bytes,
               i->complete ? "true" : "false");
        return 0;
    }
    char when[32] = "?";
    struct tm tm;
    time_t added = (time_t)i->added_s;
    if (gmtime_r(&added, &tm))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M", &tm);
    if (l->n++ == 0)
        printf("%-50s %-12s %-16s %12s\n", "NAME", "ID", "PULLED (UTC)", "ON DISK");
    printf("%-50s %.12s %-16s %8.1f MiB%s\n", i->name, i->id + strlen("sha256:"), when,
           mib(i->layer_bytes + i->download_bytes), i->complete ? "" : "  damaged");
    return 0;
}

static int images(const struct given *g, sm_store *store)
{
    struct listing l = {.json = g->json};
    struct sm_error err = {0};
    fputs(g->json ? "[" : "", stdout);
    int rc = sm_store_images(store, print_image, &l, &err);
    int code = rc ? say("images: %s", err.text) : 0;
    fputs(g->json ? "\n]\n" : "", stdout);
    return code;
}

int cmd_images(const struct cmd *cmd, int argc, char **argv)
{
    (void)argc;
    return on_store(cmd, argv, 0, 0, images);
}

static void print_freed(const struct given *g, const char *name, const struct sm_freed *f)
{
    if (g->json) {
        printf("{");
        if (name) {
            printf("\"removed\": ");
            put_string(name);
            printf(", ");
        }
        printf("\"layers\": %" PRIu64 ", \"blobs\": %" PRIu64 ", \"snapshots\": %" PRIu64
               ", \"bytes\": %" PRIu64 ", \"in_use\": %" PRIu64 "}\n",
               f->layers, f->blobs, f->snapshots, f->bytes, f->in_use);
        return;
    }
    printf("%s%s%" PRIu64 " layers, %" PRIu64 " blobs and %" PRIu64 " snapshots removed, %.1f MiB",
           name ? name : "", name ? ": " : "", f->layers, f->blobs, f->snapshots, mib(f->bytes));
    if (f->in_use)
        printf("; %" PRIu64 " are in use", f->in_use);
    printf("\n");
}

static int rmi(const struct given *g, sm_store *store)
{
    int code = 0;
    for (char **name = g->args; *name; name++) {
        struct sm_error err = {0};
        struct sm_freed freed;
        if (sm_store_remove(store, *name, &freed, &err))
            code = say("rmi: %s", err.text);
        else
            print_freed(g, *name, &freed);
    }
    return code;
}

int cmd_rmi(const struct cmd *cmd, int argc, char **argv)
{
    return on_store(cmd, argv, 1, argc, rmi);
}

static int gc(const struct given *g, sm_store *store)
{
    struct sm_error err = {0};
    struct sm_freed freed;
    if (sm_store_gc(store, &freed, &err))
        return say("gc: %s", err.text);
    print_freed(g, NULL, &freed);
    return 0;
}

int cmd_gc(const struct cmd *cmd, int argc, char **argv)
{
    (void)argc;
    return on_store(cmd, argv, 0, 0, gc);
}

struct findings {
    bool json;
    size_t n;
};

static void print_problem(void *opaque, const char *what, const char *why, int repaired)
{
    struct findings *f = opaque;
    if (f->json) {
        printf("%s\n    {\"what\": ", f->n++ ? "," : "");
        put_string(what);
        printf(", \"why\": ");
        put_string(why);
        printf(", \"repaired\": %s}", repaired ? "true" : "false");
        return;
    }
    say("verify: %s: %s%s", what, why, repaired ? " (repaired)" : "");
}

static int verify(const struct given *g, sm_store *store)
{
    struct sm_verify_config config = SM_VERIFY_CONFIG_INIT;
    struct sm_verified v;
    struct sm_error err = {0};
    struct findings f = {.json = g->json};
    config.repair = g->repair;
    config.insecure = g->insecure;
    config.problem = print_problem;
    config.opaque = &f;
    fputs(g->json ? "{\"problems\": [" : "", stdout);
    int rc = sm_store_verify(store, &config, &v, &err);
    if (g->json)
        printf("],\n \"images\": %" PRIu64 ", \"layers\": %" PRIu64 ", \"blobs\": %" PRIu64
               ", \"snapshots\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"repaired\": %" PRIu64 "}\n",
               v.images, v.layers, v.blobs, v.snapshots, v.bytes, v.repaired);
    if (rc)
        return say("verify: %s", err.text);
    if (!g->json)
        printf("%" PRIu64 " images, %" PRIu64 " layers, %" PRIu64 " blobs, %" PRIu64
               " snapshots, %.1f MiB: %" PRIu64 " problems, %" PRIu64 " repaired\n",
               v.images, v.layers, v.blobs, v.snapshots, mib(v.bytes), v.problems, v.repaired);
    return v.problems == v.repaired ? 0 : 1;
}

int cmd_verify(const struct cmd *cmd, int argc, char **argv)
{
    (void)argc;
    return on_store(cmd, argv, 0, 0, verify);
}

static int inspect(const struct given *g, sm_store *store)
{
    struct sm_error err = {0};
    char *json;
    if (sm_image_inspect(store, g->args[0], &json, &err))
        return say("inspect: %s", err.text);
    puts(json);
    sm_free(json);
    return 0;
}

int cmd_inspect(const struct cmd *cmd, int argc, char **argv)
{
    (void)argc;
    return on_store(cmd, argv, 1, 1, inspect);
}
