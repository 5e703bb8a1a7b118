// SPDX-License-Identifier: Apache-2.0
/* supermachine pull: from a registry into the store. The main thread takes signals between looks at
 * the progress. */
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "ending.h"
#include "pull_view.h"

enum { OPT_INSECURE = 1, OPT_QUIET };

const struct opt pull_options[] = {
    {'q', "quiet", NULL, "print nothing but the result", OPT_QUIET},
    {0, "insecure-registry", "HOST[:PORT]", "it may speak http, or show any certificate",
     OPT_INSECURE},
    {0},
};

struct pull {
    struct pull_view view;
    sigset_t signals;
    int ended_by;
    bool quiet;
};

static int on_progress(void *opaque, const struct sm_layer_progress *layers, size_t n)
{
    struct pull *p = opaque;
    if (!p->quiet)
        pull_view_show(&p->view, layers, n);
    if (!p->ended_by)
        p->ended_by = ending_signal(&p->signals);
    return p->ended_by;
}

static int pull(const char *image, const char *const *insecure, bool quiet)
{
    struct sm_pull_config config = SM_PULL_CONFIG_INIT;
    struct pull p = {.quiet = quiet};
    struct sm_error err = {0};
    sm_store *store = NULL;
    sm_image *got = NULL;
    ending_block(&p.signals);
    pull_view_init(&p.view);
    config.insecure = insecure;
    config.progress = on_progress;
    config.opaque = &p;
    int rc = sm_store_open(NULL, &store, &err);
    rc = rc ? rc : sm_image_pull(store, image, &config, &got, &err);
    pull_view_fini(&p.view);
    int code = 0;
    if (rc)
        code = p.ended_by ? 128 + p.ended_by : say("pull: %s", err.text);
    else if (sm_image_name(got)[0])
        printf("%s %s\n", sm_image_name(got), sm_image_digest(got));
    else
        printf("%s %s\n", image, sm_image_id(got));
    sm_image_free(got);
    sm_store_free(store);
    return code;
}

int cmd_pull(const struct cmd *cmd, int argc, char **argv)
{
    struct opts o;
    const char **insecure = NULL;
    size_t n = 0;
    bool quiet = false;
    int id, bad = 0;
    (void)argc;
    opts_init(&o, cmd, argv);
    while ((id = opts_next(&o)) >= 0) {
        if (id == OPT_QUIET)
            quiet = true;
        else
            bad |= add_string(&insecure, &n, o.value);
    }
    int code = id == OPTS_HELP ? 0 : EXIT_OURS;
    if (id == OPTS_END && !bad) {
        if (!argv[o.next] || argv[o.next + 1])
            code = say("pull: one image is needed; see `supermachine help pull`");
        else
            code = pull(argv[o.next], insecure, quiet);
    }
    free(insecure);
    return code;
}
