// SPDX-License-Identifier: Apache-2.0
#include "pull_view.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BAR 30
#define ID_START 7 /* after "sha256:" */
#define ID_LEN 12

void pull_view_init(struct pull_view *v)
{
    *v = (struct pull_view){.terminal = isatty(STDERR_FILENO)};
}

static double mib(uint64_t bytes)
{
    return (double)bytes / 1048576;
}

static void draw_bar(const struct sm_layer_progress *l)
{
    char bar[BAR + 1];
    size_t full = l->total_bytes ? (size_t)(l->done_bytes * BAR / l->total_bytes) : BAR;
    full = full < BAR ? full : BAR;
    memset(bar, '=', full);
    memset(bar + full, ' ', BAR - full);
    bar[BAR] = '\0';
    fprintf(stderr, "\r\033[K%.*s  [%s] %8.1f / %.1f MiB%s\n", ID_LEN, l->digest + ID_START, bar,
            mib(l->done_bytes), mib(l->total_bytes), l->state == SM_LAYER_READY ? "  ready" : "");
}

static void say_events(struct pull_view *v, const struct sm_layer_progress *layers, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (layers[i].state == v->shown[i])
            continue;
        v->shown[i] = layers[i].state;
        fprintf(stderr, "%.*s: %s, %.1f MiB\n", ID_LEN, layers[i].digest + ID_START,
                layers[i].state == SM_LAYER_READY ? "ready" : "downloading",
                mib(layers[i].total_bytes));
    }
}

void pull_view_show(struct pull_view *v, const struct sm_layer_progress *layers, size_t n)
{
    n = n < PULL_VIEW_LAYERS ? n : PULL_VIEW_LAYERS;
    if (!v->terminal) {
        say_events(v, layers, n);
        return;
    }
    if (v->lines)
        fprintf(stderr, "\033[%zuA", v->lines);
    for (size_t i = 0; i < n; i++)
        draw_bar(&layers[i]);
    v->lines = n;
    fflush(stderr);
}

void pull_view_fini(struct pull_view *v)
{
    if (v->lines)
        fprintf(stderr, "\033[%zuA\r\033[J", v->lines);
    v->lines = 0;
}
