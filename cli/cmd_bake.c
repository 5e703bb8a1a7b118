// SPDX-License-Identifier: Apache-2.0
/* supermachine bake: the same machine options as run, and commands to warm it up with. */
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "machine_opts.h"

enum { OPT_WARMUP = MACHINE_OPT_END };

const struct opt bake_options[] = {
    {0, "warmup", "COMMAND", "shell command to run before it is taken (repeatable)", OPT_WARMUP},
    MACHINE_OPTIONS,
    {0},
};

struct bake {
    struct machine_opts machine;
    const char **warmup; /* owned array of borrowed strings, NULL-terminated */
    const char *image;
};

static int parse(struct bake *b, const struct cmd *cmd, int argc, char **argv)
{
    struct opts opts;
    size_t n = 0;
    int id;
    b->warmup = calloc((size_t)argc + 1, sizeof *b->warmup);
    if (!b->warmup)
        return say("bake: out of memory");
    opts_init(&opts, cmd, argv);
    while ((id = opts_next(&opts)) >= 0) {
        if (id == OPT_WARMUP)
            b->warmup[n++] = opts.value;
        else if (machine_opts_take(&b->machine, "bake", id, opts.value) != 0)
            return EXIT_OURS;
    }
    if (id == OPTS_HELP)
        return 0;
    if (id == OPTS_BAD)
        return EXIT_OURS;
    b->image = argv[opts.next];
    if (!b->image)
        return say("bake: no image given; see `supermachine help bake`");
    if (argv[opts.next + 1])
        return say("bake: unexpected argument \"%.60s\"; see `supermachine help bake`",
                   argv[opts.next + 1]);
    return MACHINE_OPTS_GO;
}

static int bake(const struct bake *b)
{
    struct sm_vm_config vm = SM_VM_CONFIG_INIT;
    struct sm_bake_config config = SM_BAKE_CONFIG_INIT;
    struct sm_error err = {0};
    sm_store *store = NULL;
    sm_image *image = NULL;
    char *path = NULL;
    int code = 0;
    machine_opts_fill(&b->machine, &vm);
    config.vm = &vm;
    config.warmup = b->warmup;
    if (sm_store_open(NULL, &store, &err) != 0 ||
        sm_image_from_oci(store, b->image, &image, &err) != 0 ||
        sm_image_bake(image, &config, &path, &err) != 0)
        code = say("bake: %s", err.text);
    else
        puts(path);
    sm_free(path);
    sm_image_free(image);
    sm_store_free(store);
    return code;
}

int cmd_bake(const struct cmd *cmd, int argc, char **argv)
{
    struct bake b = {0};
    int code = parse(&b, cmd, argc, argv);
    if (code == MACHINE_OPTS_GO)
        code = bake(&b);
    free(b.warmup);
    return code;
}
