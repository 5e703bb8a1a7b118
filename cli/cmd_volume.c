// SPDX-License-Identifier: Apache-2.0
/* supermachine volume ls, create, rm. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "json.h"

struct listing {
    bool json;
    size_t n;
};

static int print_volume(void *opaque, const struct sm_volume_info *v)
{
    struct listing *l = opaque;
    if (l->json) {
        printf("%s\n  {\"name\": ", l->n++ ? "," : "");
        put_string(v->name);
        printf(", \"path\": ");
        put_string(v->path);
        printf(", \"size_bytes\": %" PRIu64 ", \"disk_bytes\": %" PRIu64 "}", v->size_bytes,
               v->disk_bytes);
        return 0;
    }
    if (l->n++ == 0)
        printf("%-30s %12s %14s  %s\n", "NAME", "SIZE", "ON DISK", "FILE");
    printf("%-30s %8.1f GiB %10.1f MiB  %s\n", v->name, (double)v->size_bytes / (1 << 30),
           (double)v->disk_bytes / (1 << 20), v->path);
    return 0;
}

static int list(sm_store *store, bool json, struct sm_error *err)
{
    struct listing l = {.json = json};
    fputs(json ? "[" : "", stdout);
    int rc = sm_store_volumes(store, print_volume, &l, err);
    fputs(json ? "\n]\n" : "", stdout);
    return rc ? say("volume: %s", err->text) : 0;
}

/* create or rm, of each name; goes on after one that fails. */
static int for_each(sm_store *store, char **names,
                    int (*change)(sm_store *store, const char *name, struct sm_error *err))
{
    int code = 0;
    for (; *names; names++) {
        struct sm_error err = {0};
        if (change(store, *names, &err))
            code = say("volume: %s", err.text);
        else
            puts(*names);
    }
    return code;
}

int cmd_volume(const struct cmd *cmd, int argc, char **argv)
{
    struct opts o;
    struct sm_error err = {0};
    sm_store *store = NULL;
    bool json = false;
    int id, code;
    const char *what = argc > 1 && argv[1][0] != '-' ? argv[1] : "";
    opts_init(&o, cmd, argv);
    if (*what)
        o.next = 2;
    while ((id = opts_next(&o)) >= 0)
        json = true; /* the only option */
    char **names = argv + o.next;
    if (id != OPTS_END)
        return id == OPTS_HELP ? 0 : EXIT_OURS;
    bool ls = strcmp(what, "ls") == 0, create = strcmp(what, "create") == 0;
    if ((!ls && !create && strcmp(what, "rm") != 0) || (ls && *names) || (!ls && json) ||
        (!ls && !*names) || (create && names[1]))
        return say("volume: must be ls [--json], create NAME or rm NAME...; see "
                   "`supermachine help volume`");
    if (sm_store_open(NULL, &store, &err))
        return say("volume: %s", err.text);
    code = ls ? list(store, json, &err)
              : for_each(store, names, create ? sm_volume_create : sm_volume_remove);
    sm_store_free(store);
    return code;
}
