/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image's config document: how its process is to be started, and which layers make its file
 * system (OCI image-spec config.md). Everything in it is data from outside: nothing is ever used as
 * a path on the host.
 */
#ifndef SM_IMAGE_CONFIG_H
#define SM_IMAGE_CONFIG_H

#include <stddef.h>

#include "base/err.h"
#include "base/hash.h"

#define CONFIG_MAX_STRINGS 4096            /* of each of Entrypoint, Cmd and Env */
#define CONFIG_MAX_STRING (128 * 1024 - 1) /* bytes of one of them: Linux's MAX_ARG_STRLEN */
#define CONFIG_MAX_TOTAL (1024 * 1024)     /* bytes of all of them */
#define CONFIG_MAX_LAYERS 64

/* A list of owned strings; items is NULL-terminated (argv form), or NULL when the list is empty. */
struct string_list {
    char **items;
    size_t n;
};

struct image_config {
    char *os;           /* owned; never NULL after a parse */
    char *architecture; /* owned; never NULL after a parse */
    struct string_list entrypoint;
    struct string_list cmd;
    struct string_list env; /* "NAME=value", each NAME once: the last in the document wins */
    char *working_dir;      /* owned; absolute, in the guest; NULL when not given */
    char *user;             /* owned; "name|uid[:group|gid]", unchecked; NULL when not given */
    size_t n_diff_ids;
    char (*diff_ids)[DIGEST_STR_SIZE]; /* owned; valid digests, lowest layer first */
};

/* Parse a config document. what names it in errors. SM_ECORRUPT when it breaks the format or a
 * limit, SM_EUNSUPPORTED for a root file system that is not made of layers. config_fini on success
 * only. */
int config_parse(const void *data, size_t len, const char *what, struct image_config *out,
                 struct sm_error *err);
void config_fini(struct image_config *config); /* a zeroed or half-filled one is fine */

/* Append a copy of s. 0, or -1 when out of memory (list unchanged). */
int string_list_add(struct string_list *list, const char *s);
/* Set NAME in an environment list: replaces an entry of the same NAME, else appends. pair is
 * "NAME=value". 0, or -1 when out of memory (list unchanged). */
int string_list_set_env(struct string_list *list, const char *pair);
void string_list_fini(struct string_list *list);

#endif
