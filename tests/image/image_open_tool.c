/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_open_tool REF STORE [BUILTIN_DIR]: open an image and print, as JSON, what came of it. For
 * tests and for developers. Exit code 0, or 125 with the error on stderr. TOOL_FRESH, TOOL_IDLE_MS,
 * TOOL_ATTEMPTS and TOOL_INSECURE (hosts with commas) are the fields of struct image_options.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/image.h"

static json_t *list(const struct string_list *l)
{
    json_t *out = json_array();
    for (size_t i = 0; i < l->n; i++) {
        json_array_append_new(out, json_string(l->items[i]));
    }
    return out;
}

static int print(const struct image *image)
{
    const struct image_config *c = &image->config;
    json_t *layers = json_array();
    for (size_t i = 0; i < image->n_layers; i++) {
        const struct image_layer *l = &image->layers[i];
        json_array_append_new(layers,
                              json_pack("{s:s, s:I, s:s}", "path", l->held.path, "size",
                                        (json_int_t)l->held.size_bytes, "diff_id", l->diff_id));
    }
    json_t *out =
        json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:s?, s:s?, s:o}", "config_digest",
                  image->config_digest, "os", c->os, "architecture", c->architecture, "entrypoint",
                  list(&c->entrypoint), "cmd", list(&c->cmd), "env", list(&c->env), "working_dir",
                  c->working_dir, "user", c->user, "layers", layers);
    int rc = json_dumpf(out, stdout, JSON_INDENT(2));
    printf("\n");
    json_decref(out);
    return rc || fflush(stdout) ? -1 : 0;
}

static unsigned number(const char *variable)
{
    const char *text = getenv(variable);
    return text ? (unsigned)strtoul(text, NULL, 10) : 0;
}

/* Cut TOOL_INSECURE into at most max - 1 hosts. */
static void hosts(const char **list, size_t max)
{
    char *text = getenv("TOOL_INSECURE"), *save = NULL;
    size_t n = 0;
    for (char *h = text ? strtok_r(text, ",", &save) : NULL; h && n + 1 < max;
         h = strtok_r(NULL, ",", &save)) {
        list[n++] = h;
    }
    list[n] = NULL;
}

int main(int argc, char **argv)
{
    const char *insecure[17];
    struct sm_error err = {0};
    struct store *store = NULL;
    struct image *image = NULL;
    if (argc < 3) {
        fprintf(stderr, "usage: image_open_tool REF STORE [BUILTIN_DIR]\n");
        return 2;
    }
    hosts(insecure, 17);
    struct image_options options = {.builtin_dir = argc > 3 ? argv[3] : NULL,
                                    .fresh = getenv("TOOL_FRESH") != NULL,
                                    .idle_ms = number("TOOL_IDLE_MS"),
                                    .attempts = number("TOOL_ATTEMPTS"),
                                    .insecure = insecure};
    int rc = store_open(argv[2], &store, &err);
    if (!rc) {
        rc = image_open(store, argv[1], &options, &image, &err);
    }
    if (rc) {
        fprintf(stderr, "image_open_tool: %s (code %d)\n", err.text, rc);
    } else if (print(image)) {
        fprintf(stderr, "image_open_tool: cannot write the result\n");
        rc = SM_EIO;
    }
    image_free(image);
    store_close(store);
    return rc ? 125 : 0;
}
