/* SPDX-License-Identifier: Apache-2.0 */
/* How a pull looks on stderr: bars on a terminal, a line per event elsewhere. */
#ifndef CLI_PULL_VIEW_H
#define CLI_PULL_VIEW_H

#include <stdbool.h>
#include <supermachine.h>

#define PULL_VIEW_LAYERS 64

struct pull_view {
    bool terminal;
    size_t lines; /* drawn, to be drawn over */
    enum sm_layer_state shown[PULL_VIEW_LAYERS];
};

void pull_view_init(struct pull_view *v);
void pull_view_show(struct pull_view *v, const struct sm_layer_progress *layers, size_t n);
/* The bars go away: what comes next says how it ended. */
void pull_view_fini(struct pull_view *v);

#endif
