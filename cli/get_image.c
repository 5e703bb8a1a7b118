// SPDX-License-Identifier: Apache-2.0
#include "get_image.h"

#include <string.h>

#include "pull_view.h"

struct pull {
    struct pull_view view;
    struct signals *signals;
};

static int on_progress(void *opaque, const struct sm_layer_progress *layers, size_t n)
{
    struct pull *p = opaque;
    pull_view_show(&p->view, layers, n);
    return signals_stop_pull(p->signals);
}

int get_image(sm_store *store, const char *ref, const char *const *insecure,
              struct signals *signals, sm_image **out, struct sm_error *err)
{
    static const char snapshot[] = "snapshot:";
    struct sm_pull_config config = SM_PULL_CONFIG_INIT;
    struct pull pull = {.signals = signals};
    if (strncmp(ref, snapshot, sizeof snapshot - 1) == 0)
        return sm_image_from_snapshot(store, ref + sizeof snapshot - 1, out, err);
    config.if_missing = 1;
    config.insecure = insecure;
    config.progress = on_progress;
    config.opaque = &pull;
    pull_view_init(&pull.view);
    signals_pulling(signals, true);
    int rc = sm_image_pull(store, ref, &config, out, err);
    signals_pulling(signals, false);
    pull_view_fini(&pull.view);
    return rc;
}
