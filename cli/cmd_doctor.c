// SPDX-License-Identifier: Apache-2.0
/* supermachine doctor: what is here, and for what is not, why and what to do. Starts nothing. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "json.h"

#define ENGINES_MAX 4
#define FILES 3

/* Layers of the jail, and what a host without one has to change. */
static const struct {
    unsigned bit;
    const char *name, *missing;
} layers[] = {
    {SM_JAIL_NO_NEW_PRIVS, "no-new-privileges", "the kernel is too old"},
    {SM_JAIL_SECCOMP, "seccomp", "this is a build for tests, with sanitizers"},
    {SM_JAIL_CAPABILITIES, "no-capabilities", "the kernel refused to drop them"},
    {SM_JAIL_NAMESPACES, "namespaces",
     "unprivileged user namespaces are switched off (sysctl kernel.unprivileged_userns_clone, "
     "user.max_user_namespaces, or AppArmor)"},
    {SM_JAIL_LANDLOCK, "landlock", "the kernel has it not, or not switched on (lsm= at boot)"},
    {SM_JAIL_PIDS, "pid-namespace",
     "as for namespaces; or this is a build for tests, with sanitizers"},
};
#define LAYERS (sizeof layers / sizeof layers[0])

enum { OPT_JSON = 1 };

const struct opt doctor_options[] = {
    {0, "json", NULL, "print one JSON object, for programs", OPT_JSON},
    {0},
};

/* A file or folder that comes with the program. */
struct doctor_file {
    const char *what;
    char path[4200]; /* "" when nothing is installed */
    bool present, folder;
    long long bytes;
};

struct doctor {
    struct sm_engine_info engines[ENGINES_MAX];
    unsigned n_engines;
    struct sm_limits limits;
    struct sm_error store_error; /* code 0: the store is usable, and what follows is known */
    char store[4200];
    bool writable;
    unsigned jail;              /* bits of enum sm_jail */
    struct sm_error jail_error; /* code 0: jail is known */
    struct doctor_file files[FILES];
    bool fine;
};

static void look_at_file(struct doctor_file *f, const char *dir, const char *what, const char *file)
{
    struct stat st;
    f->what = what;
    if (dir[0])
        snprintf(f->path, sizeof f->path, "%s/%s", dir, file);
    f->present = dir[0] && access(f->path, R_OK) == 0 && stat(f->path, &st) == 0;
    f->folder = f->present && !S_ISREG(st.st_mode);
    f->bytes = f->present && !f->folder ? (long long)st.st_size : 0;
}

static void look(struct doctor *d)
{
    sm_store *store;
    *d = (struct doctor){0};
    sm_limits(&d->limits);
    while (d->n_engines < ENGINES_MAX &&
           sm_engine_info(d->n_engines, &d->engines[d->n_engines]) == 0)
        d->fine |= d->engines[d->n_engines++].automatic;
    if (sm_store_open(NULL, &store, &d->store_error) != 0) {
        d->fine = false;
        return;
    }
    const char *data = sm_store_data_dir(store);
    look_at_file(&d->files[0], data, "kernel", "guest/vmlinuz");
    look_at_file(&d->files[1], data, "initramfs", "guest/initramfs.cpio");
    look_at_file(&d->files[2], data, "image busybox", "images/busybox");
    for (int i = 0; i < FILES; i++)
        d->fine &= d->files[i].present;
    snprintf(d->store, sizeof d->store, "%s", sm_store_path(store));
    sm_jail_probe(store, &d->jail, &d->jail_error);
    d->fine &= d->jail_error.code == 0;
    d->writable = access(d->store, W_OK | X_OK) == 0;
    sm_store_free(store);
}

static void print_jail(const struct doctor *d)
{
    if (d->jail_error.code) {
        printf("jail             not usable: %s\n", d->jail_error.text);
        return;
    }
    printf("jail            ");
    for (size_t i = 0; i < LAYERS; i++)
        if (d->jail & layers[i].bit)
            printf(" %s", layers[i].name);
    putchar('\n');
    for (size_t i = 0; i < LAYERS; i++)
        if (!(d->jail & layers[i].bit))
            printf("                 without %s: %s\n", layers[i].name, layers[i].missing);
}

static void print_text(const struct doctor *d)
{
    printf("version          %s\n", sm_version());
    for (unsigned i = 0; i < d->n_engines; i++) {
        const struct sm_engine_info *e = &d->engines[i];
        printf("engine %-9s %s%s%s\n", e->name, e->usable ? "usable" : "not usable",
               e->automatic ? "; chosen by --engine auto" : "",
               e->usable && strcmp(e->name, "soft") == 0 ? " (software processor)" : "");
        if (!e->usable)
            printf("                 %s\n", e->error.text);
    }
    printf("memory of a VM   %u to %u MiB, %u unless --memory says otherwise\n",
           d->limits.memory_min_mib, d->limits.memory_max_mib, d->limits.memory_default_mib);
    if (d->store_error.code) {
        printf("store            not usable: %s\n", d->store_error.text);
        return;
    }
    for (int i = 0; i < FILES; i++) {
        const struct doctor_file *f = &d->files[i];
        printf("%-16s %s%s", f->what,
               f->present ? "" : "missing: ", f->path[0] ? f->path : "nothing is installed");
        if (f->present && !f->folder)
            printf(" (%.1f MiB)", (double)f->bytes / (1 << 20));
        putchar('\n');
    }
    print_jail(d);
    printf("store            %s%s\n", d->store,
           d->writable ? "" : " (cannot be written: only images that are in it can be used)");
    printf("%s\n", d->fine ? "all is well" : "something is missing");
}

static const char *json_bool(bool b)
{
    return b ? "true" : "false";
}

static void print_json_jail(const struct doctor *d)
{
    printf(", \"jail\": {\"usable\": %s", json_bool(!d->jail_error.code));
    if (d->jail_error.code) {
        printf(", ");
        put_member("reason", d->jail_error.text);
    }
    for (size_t i = 0; i < LAYERS && !d->jail_error.code; i++)
        printf(", \"%s\": %s", layers[i].name, json_bool(d->jail & layers[i].bit));
    putchar('}');
}

static void print_json(const struct doctor *d)
{
    printf("{\"ok\": %s, ", json_bool(d->fine));
    put_member("version", sm_version());
    printf(", \"engines\": [");
    for (unsigned i = 0; i < d->n_engines; i++) {
        const struct sm_engine_info *e = &d->engines[i];
        printf("%s{", i ? ", " : "");
        put_member("name", e->name);
        printf(", \"usable\": %s, \"automatic\": %s", json_bool(e->usable),
               json_bool(e->automatic));
        if (!e->usable) {
            printf(", ");
            put_member("reason", e->error.text);
        }
        putchar('}');
    }
    printf("], \"memory_mib\": {\"min\": %u, \"max\": %u, \"default\": %u}",
           d->limits.memory_min_mib, d->limits.memory_max_mib, d->limits.memory_default_mib);
    printf(", \"store\": {\"usable\": %s, ", json_bool(!d->store_error.code));
    if (d->store_error.code) {
        put_member("reason", d->store_error.text);
    } else {
        put_member("path", d->store);
        printf(", \"writable\": %s", json_bool(d->writable));
    }
    putchar('}');
    if (!d->store_error.code)
        print_json_jail(d);
    printf(", \"files\": [");
    for (int i = 0; i < FILES && !d->store_error.code; i++) {
        const struct doctor_file *f = &d->files[i];
        printf("%s{", i ? ", " : "");
        put_member("what", f->what);
        printf(", ");
        put_member("path", f->path);
        printf(", \"present\": %s, \"bytes\": %lld}", json_bool(f->present), f->bytes);
    }
    printf("]}\n");
}

int cmd_doctor(const struct cmd *cmd, int argc, char **argv)
{
    struct opts o;
    struct doctor d;
    bool json = false;
    int id;
    opts_init(&o, cmd, argv);
    while ((id = opts_next(&o)) == OPT_JSON)
        json = true;
    if (id == OPTS_HELP)
        return 0;
    if (id != OPTS_END)
        return EXIT_OURS;
    if (argv[o.next])
        return say("doctor: unexpected argument \"%.60s\"; see `supermachine help doctor`",
                   argv[o.next]);
    look(&d);
    if (json)
        print_json(&d);
    else
        print_text(&d);
    return d.fine ? 0 : EXIT_OURS;
}
