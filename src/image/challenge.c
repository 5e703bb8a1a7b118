/* SPDX-License-Identifier: Apache-2.0 */
#include "image/challenge.h"

#include <string.h>
#include <strings.h>

#define TOKEN_MAX 64

static bool is_token(char c)
{
    return c > ' ' && c < 127 && !strchr("()<>@,;:\\\"/[]?={}", c);
}

static const char *skip_space(const char *p)
{
    return p + strspn(p, " \t");
}

/* A token into text; NULL when there is none or it is too long. */
static const char *read_token(const char *p, char text[TOKEN_MAX])
{
    size_t n = 0;
    while (is_token(p[n]) && n < TOKEN_MAX - 1) {
        text[n] = p[n];
        n++;
    }
    text[n] = '\0';
    return n == 0 || is_token(p[n]) ? NULL : p + n;
}

/* A token or quoted string into text; NULL when it is broken or too long. */
static const char *read_value(const char *p, char *text, size_t size)
{
    size_t n = 0;
    bool quoted = *p == '"';
    p += quoted;
    for (; quoted ? *p && *p != '"' : is_token(*p) || (*p && strchr("/:@?=", *p)); p++) {
        if (quoted && *p == '\\' && p[1]) {
            p++;
        }
        if ((unsigned char)*p < ' ' || *p == 127 || n + 1 >= size) {
            return NULL;
        }
        text[n++] = *p;
    }
    text[n] = '\0';
    if (quoted && *p != '"') {
        return NULL;
    }
    return p + quoted;
}

static enum challenge_scheme scheme_of(const char *token)
{
    if (strcasecmp(token, "Bearer") == 0) {
        return CHALLENGE_BEARER;
    }
    return strcasecmp(token, "Basic") == 0 ? CHALLENGE_BASIC : CHALLENGE_NONE;
}

/* At a parameter (not at the next challenge)? */
static bool at_parameter(const char *p)
{
    char name[TOKEN_MAX];
    p = read_token(p, name);
    return p && *skip_space(p) == '=';
}

/* One "name=value". NULL when broken. */
static const char *read_parameter(const char *p, struct challenge *c)
{
    char name[TOKEN_MAX], value[sizeof c->realm];
    p = read_token(p, name);
    p = p ? skip_space(p) : NULL;
    if (!p || *p != '=') {
        return NULL;
    }
    p = read_value(skip_space(p + 1), value, sizeof value);
    if (!p) {
        return NULL;
    }
    if (strcasecmp(name, "realm") == 0) {
        strcpy(c->realm, value);
    } else if (strcasecmp(name, "service") == 0) {
        if (strlen(value) >= sizeof c->service) {
            return NULL;
        }
        strcpy(c->service, value);
    }
    return p;
}

/* One scheme with its parameters, up to the next or the end. NULL when broken. */
static const char *read_one(const char *p, struct challenge *c)
{
    char token[TOKEN_MAX];
    *c = (struct challenge){0};
    p = read_token(p, token);
    if (!p || (*p && *p != ' ' && *p != '\t' && *p != ',')) {
        return NULL;
    }
    c->scheme = scheme_of(token);
    p = skip_space(p);
    if (*p && *p != ',' && !at_parameter(p)) { /* token68: of no scheme we know */
        p += strcspn(p, ",");
    }
    while (*p && *p != ',') {
        p = read_parameter(p, c);
        if (!p) {
            return NULL;
        }
        p = skip_space(p);
        const char *next = *p == ',' ? p + 1 + strspn(p + 1, ", \t") : p;
        if (*p == ',' && at_parameter(next)) {
            p = next;
        } else if (*p && *p != ',') {
            return NULL;
        }
    }
    return p;
}

int challenge_read(const char *value, struct challenge *out, struct sm_error *err)
{
    struct challenge best = *out, one;
    const char *p = value + strspn(value, ", \t");
    while (*p) {
        p = read_one(p, &one);
        if (!p) {
            return err_set(err, SM_ECORRUPT,
                           "the registry's WWW-Authenticate header cannot be understood: %.120s",
                           value);
        }
        if (one.scheme > best.scheme && (one.scheme != CHALLENGE_BEARER || one.realm[0])) {
            best = one;
        }
        p += strspn(p, ", \t");
    }
    *out = best;
    return SM_OK;
}
