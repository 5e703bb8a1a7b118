/* SPDX-License-Identifier: Apache-2.0 */
/* JSON on stdout, for --json. */
#ifndef CLI_JSON_H
#define CLI_JSON_H

/* A string with its quotes. Control characters are escaped; bytes that are not ASCII are left as
 * they are: a path in UTF-8 is JSON as it is. */
void put_string(const char *text);
/* "key": "text" */
void put_member(const char *key, const char *text);

#endif
