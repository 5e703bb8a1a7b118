/* SPDX-License-Identifier: Apache-2.0 */
#include "image/auth.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/io.h"
#include "image/cred_helper.h"
#include "base/json_doc.h"

#define HUB "docker.io"
#define HUB_KEY "https://index.docker.io/v1/" /* what Docker files its own registry under */
#define VARIABLE "SUPERMACHINE_REGISTRY_AUTH"

static void wipe(char *text)
{
    if (text) {
        explicit_bzero(text, strlen(text));
        free(text);
    }
}

void credential_fini(struct credential *c)
{
    wipe(c->user);
    wipe(c->secret);
    *c = (struct credential){0};
}

static void wipe_buf(struct buf *b)
{
    if (b->data) {
        explicit_bzero(b->data, b->cap);
    }
    buf_fini(b);
}

/* Does a key of config.json mean host? Old keys are URLs. */
static bool key_is(const char *key, const char *host)
{
    static const char *const hub[] = {HUB, "index.docker.io", "registry-1.docker.io"};
    const char *s = strstr(key, "://");
    s = s ? s + 3 : key;
    size_t n = strcspn(s, "/");
    if (strcmp(host, HUB) == 0) {
        for (size_t i = 0; i < sizeof hub / sizeof hub[0]; i++) {
            if (strlen(hub[i]) == n && strncmp(hub[i], s, n) == 0) {
                return true;
            }
        }
    }
    return strlen(host) == n && strncmp(host, s, n) == 0;
}

static int take(const char *user, const char *secret, bool identity, struct credential *out,
                struct sm_error *err)
{
    out->user = strdup(user);
    out->secret = strdup(secret);
    out->identity = identity;
    if (!out->user || !out->secret) {
        credential_fini(out);
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    return SM_OK;
}

/* "USER:PASSWORD". */
static int take_pair(char *pair, const char *what, struct credential *out, struct sm_error *err)
{
    char *colon = strchr(pair, ':');
    if (!colon || colon == pair) {
        return err_set(err, SM_ECORRUPT, "%s: credentials are not USER:PASSWORD", what);
    }
    *colon = '\0';
    return take(pair, colon + 1, false, out, err);
}

/* One entry of "auths". An empty one only says that a helper has it. */
static int read_entry(const json_t *entry, const char *what, struct credential *out,
                      struct sm_error *err)
{
    const char *token, *pair, *user, *password;
    int rc;
    if ((rc = json_doc_string(entry, "identitytoken", what, &token, err)) ||
        (rc = json_doc_string(entry, "auth", what, &pair, err)) ||
        (rc = json_doc_string(entry, "username", what, &user, err)) ||
        (rc = json_doc_string(entry, "password", what, &password, err))) {
        return rc;
    }
    if (token && token[0]) {
        return take("<token>", token, true, out, err);
    }
    if (pair && pair[0]) {
        struct buf plain = {0};
        if (base64_decode(pair, &plain) || strlen((char *)plain.data) != plain.len) {
            rc = err_set(err, SM_ECORRUPT, "%s: an \"auth\" is not base64 of USER:PASSWORD", what);
        } else {
            rc = take_pair((char *)plain.data, what, out, err);
        }
        wipe_buf(&plain);
        return rc;
    }
    return user && user[0] && password ? take(user, password, false, out, err) : SM_OK;
}

static int read_auths(const json_t *doc, const char *what, const char *host, struct credential *out,
                      struct sm_error *err)
{
    json_t *auths, *entry;
    const char *key;
    int rc = json_doc_object(doc, "auths", what, &auths, err);
    json_object_foreach(auths, key, entry)
    {
        if (!rc && !out->user && json_is_object(entry) && key_is(key, host)) {
            rc = read_entry(entry, what, out, err);
        }
    }
    return rc;
}

static int ask_helper(const char *helper, const char *host, const atomic_bool *cancel,
                      struct credential *out, struct sm_error *err)
{
    struct buf text = {0};
    json_t *doc = NULL;
    const char *user, *secret;
    const char *server = strcmp(host, HUB) == 0 ? HUB_KEY : host;
    char what[128];
    snprintf(what, sizeof what, "the answer of docker-credential-%.64s", helper);
    int rc = cred_helper_get(helper, server, CRED_HELPER_MS, cancel, &text, err);
    if (!rc && !(rc = json_doc_parse(text.data, text.len, what, &doc, err))) {
        if (!(rc = json_doc_string(doc, "Username", what, &user, err)) &&
            !(rc = json_doc_string(doc, "Secret", what, &secret, err)) && user && secret) {
            rc = take(user, secret, strcmp(user, "<token>") == 0, out, err);
        }
    }
    json_decref(doc);
    wipe_buf(&text);
    return rc == SM_ENOTFOUND ? SM_OK : rc;
}

/* The helper for host, or NULL. */
static int find_helper(const json_t *doc, const char *what, const char *host, const char **out,
                       struct sm_error *err)
{
    json_t *helpers, *value;
    const char *key;
    int rc = json_doc_object(doc, "credHelpers", what, &helpers, err);
    *out = NULL;
    json_object_foreach(helpers, key, value)
    {
        if (!*out && key_is(key, host)) {
            *out = json_string_value(value);
        }
    }
    return rc || *out ? rc : json_doc_string(doc, "credsStore", what, out, err);
}

int auth_find_in(const void *text, size_t len, const char *what, const char *host,
                 const atomic_bool *cancel, struct credential *out, struct sm_error *err)
{
    json_t *doc;
    const char *helper;
    *out = (struct credential){0};
    int rc = json_doc_parse(text, len, what, &doc, err);
    if (rc) {
        return rc;
    }
    if (!json_is_object(doc)) {
        rc = err_set(err, SM_ECORRUPT, "%s is not a JSON object", what);
    } else {
        rc = find_helper(doc, what, host, &helper, err);
        if (!rc && helper && helper[0]) {
            rc = ask_helper(helper, host, cancel, out, err);
        }
        if (!rc && !out->user) {
            rc = read_auths(doc, what, host, out, err);
        }
    }
    json_decref(doc);
    return rc;
}

/* HOST=USER:PASSWORD */
static int find_in_variable(const char *value, const char *host, struct credential *out,
                            struct sm_error *err)
{
    const char *equals = strchr(value, '=');
    if (!equals || equals == value) {
        return err_set(err, SM_EINVAL,
                       "%s must be HOST=USER:PASSWORD, or the text of a Docker config.json",
                       VARIABLE);
    }
    if ((size_t)(equals - value) != strlen(host) || memcmp(value, host, strlen(host)) != 0) {
        return SM_OK;
    }
    char *pair = strdup(equals + 1);
    int rc = pair ? take_pair(pair, VARIABLE, out, err) : err_set(err, SM_ENOMEM, "out of memory");
    if (pair) {
        explicit_bzero(pair, strlen(equals + 1));
    }
    free(pair);
    return rc;
}

static char *config_path(void)
{
    const char *folder = getenv("DOCKER_CONFIG"), *home = getenv("HOME");
    if (folder && folder[0]) {
        return io_format("%s/config.json", folder);
    }
    return home && home[0] ? io_format("%s/.docker/config.json", home) : NULL;
}

int auth_find(const char *host, const atomic_bool *cancel, struct credential *out,
              struct sm_error *err)
{
    const char *value = getenv(VARIABLE);
    *out = (struct credential){0};
    if (value && value[0]) {
        int rc = value[0] == '{'
                     ? auth_find_in(value, strlen(value), VARIABLE, host, cancel, out, err)
                     : find_in_variable(value, host, out, err);
        if (rc || out->user) {
            return rc;
        }
    }
    char *path = config_path();
    int rc = SM_OK;
    if (path && access(path, F_OK) == 0) {
        struct buf text = {0};
        rc = io_slurp(path, AUTH_CONFIG_MAX, &text, err);
        rc = rc ? rc : auth_find_in(text.data, text.len, path, host, cancel, out, err);
        wipe_buf(&text);
    }
    free(path);
    return rc;
}
