/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_open_tool REF STORE [BUILTIN_DIR]: open an image and print, as JSON, what came of it. For
 * tests and for developers. Exit code 0, or 125 with the error on stderr.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

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
        json_array_append_new(layers, json_pack("{s:s, s:I, s:s}", "path", l->path, "size",
                                                (json_int_t)l->size_bytes, "diff_id", l->diff_id));
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

int main(int argc, char **argv)
{
    struct sm_error err = {0};
    struct store *store = NULL;
    struct image *image = NULL;
    if (argc < 3) {
        fprintf(stderr, "usage: image_open_tool REF STORE [BUILTIN_DIR]\n");
        return 2;
    }
    struct image_options options = {.builtin_dir = argc > 3 ? argv[3] : NULL};
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
