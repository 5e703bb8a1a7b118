/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON from outside, read strictly: UTF-8, no duplicate keys, no NUL in any string, nothing after
 * the document, bounded depth and number of values (RFC 8259; reliability-checklist RG-12).
 */
#ifndef SM_BASE_JSON_DOC_H
#define SM_BASE_JSON_DOC_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define JSON_DOC_MAX_BYTES (4u << 20)
#define JSON_DOC_MAX_DEPTH 64
#define JSON_DOC_MAX_VALUES 200000

/* Parse len bytes. what names the document in errors (SM_ECORRUPT). The caller json_decref()s *out.
 */
int json_doc_parse(const void *data, size_t len, const char *what, json_t **out,
                   struct sm_error *err);

/*
 * Typed members of an object. A missing or null member gives NULL / 0 and SM_OK; a member of
 * another type is SM_ECORRUPT with key and what named. Results are borrowed from the document.
 */
int json_doc_string(const json_t *obj, const char *key, const char *what, const char **out,
                    struct sm_error *err);
int json_doc_array(const json_t *obj, const char *key, const char *what, json_t **out,
                   struct sm_error *err);
int json_doc_object(const json_t *obj, const char *key, const char *what, json_t **out,
                    struct sm_error *err);

#endif
