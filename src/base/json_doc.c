/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strict JSON reading over jansson. The text is scanned once before parsing, so that neither depth
 * nor the number of values (memory: about 100 bytes each) follows an attacker's word.
 */
#include "base/json_doc.h"

static int check_shape(const uint8_t *p, size_t len, const char *what, struct sm_error *err)
{
    size_t depth = 0, values = 0;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        uint8_t c = p[i];
        if (in_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                in_string = false;
            }
            continue;
        }
        switch (c) {
        case '"':
            in_string = true;
            break;
        case '[':
        case '{':
            values++;
            if (++depth > JSON_DOC_MAX_DEPTH) {
                return err_set(err, SM_ECORRUPT, "%s is nested deeper than %d levels", what,
                               JSON_DOC_MAX_DEPTH);
            }
            break;
        case ']':
        case '}':
            depth -= depth > 0;
            break;
        case ',':
            values++;
            break;
        }
    }
    if (values > JSON_DOC_MAX_VALUES) {
        return err_set(err, SM_ECORRUPT, "%s holds more than %d values", what, JSON_DOC_MAX_VALUES);
    }
    return SM_OK;
}

int json_doc_parse(const void *data, size_t len, const char *what, json_t **out,
                   struct sm_error *err)
{
    *out = NULL;
    if (len > JSON_DOC_MAX_BYTES) {
        return err_set(err, SM_ECORRUPT, "%s is larger than the limit of %u bytes", what,
                       JSON_DOC_MAX_BYTES);
    }
    int rc = check_shape(data, len, what, err);
    if (rc) {
        return rc;
    }
    json_error_t why;
    json_t *doc = json_loadb(data, len, JSON_REJECT_DUPLICATES, &why);
    if (!doc) {
        return err_set(err, SM_ECORRUPT, "%s is not valid JSON: %s (line %d)", what, why.text,
                       why.line);
    }
    *out = doc;
    return SM_OK;
}

static int wrong_type(const char *key, const char *what, const char *type, struct sm_error *err)
{
    return err_set(err, SM_ECORRUPT, "%s: \"%s\" is not %s", what, key, type);
}

int json_doc_string(const json_t *obj, const char *key, const char *what, const char **out,
                    struct sm_error *err)
{
    const json_t *v = json_object_get(obj, key);
    *out = NULL;
    if (!v || json_is_null(v)) {
        return SM_OK;
    }
    if (!json_is_string(v)) {
        return wrong_type(key, what, "a string", err);
    }
    *out = json_string_value(v);
    return SM_OK;
}

int json_doc_array(const json_t *obj, const char *key, const char *what, json_t **out,
                   struct sm_error *err)
{
    json_t *v = json_object_get(obj, key);
    *out = NULL;
    if (!v || json_is_null(v)) {
        return SM_OK;
    }
    if (!json_is_array(v)) {
        return wrong_type(key, what, "an array", err);
    }
    *out = v;
    return SM_OK;
}

int json_doc_object(const json_t *obj, const char *key, const char *what, json_t **out,
                    struct sm_error *err)
{
    json_t *v = json_object_get(obj, key);
    *out = NULL;
    if (!v || json_is_null(v)) {
        return SM_OK;
    }
    if (!json_is_object(v)) {
        return wrong_type(key, what, "an object", err);
    }
    *out = v;
    return SM_OK;
}
