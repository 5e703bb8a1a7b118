/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Credentials for registries, from where Docker keeps them:
 *
 *   $SUPERMACHINE_REGISTRY_AUTH      HOST=USER:PASSWORD, or the text of a Docker config.json
 *   $DOCKER_CONFIG/config.json, else ~/.docker/config.json: credHelpers, credsStore, auths
 *
 * The first that has something for the host is taken. No secret is ever put into an error's text.
 */
#ifndef SM_IMAGE_AUTH_H
#define SM_IMAGE_AUTH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define AUTH_CONFIG_MAX (1u << 20)

struct credential {
    char *user;    /* owned; NULL: none was found */
    char *secret;  /* owned: a password, or an identity token */
    bool identity; /* secret is an OAuth2 refresh token */
};
void credential_fini(struct credential *c); /* wipes; a zeroed one is fine */

/*
 * Look for host ("docker.io", "localhost:5000"). SM_OK and an empty *out when there is none.
 * SM_ECORRUPT for a config.json or variable that cannot be understood, and the errors of
 * cred_helper.h. May wait for a helper.
 */
int auth_find(const char *host, const atomic_bool *cancel, struct credential *out,
              struct sm_error *err);

/* The same in the text of a config.json; what names it in errors. */
int auth_find_in(const void *text, size_t len, const char *what, const char *host,
                 const atomic_bool *cancel, struct credential *out, struct sm_error *err);

#endif
