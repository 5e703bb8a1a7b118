/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcurl, loaded when a registry is asked for the first time: it brings 25 further shared objects
 * (TLS, Kerberos, LDAP, SSH ...), which a VM's process has no use for. The types are those of its
 * headers; the functions, a table.
 */
#ifndef SM_IMAGE_LIBCURL_H
#define SM_IMAGE_LIBCURL_H

#include <curl/curl.h>

#include "base/err.h"

#define LIBCURL_FUNCTIONS(X)                                                                       \
    X(easy_cleanup)                                                                                \
    X(easy_init)                                                                                   \
    X(easy_reset)                                                                                  \
    X(easy_setopt)                                                                                 \
    X(easy_strerror)                                                                               \
    X(free)                                                                                        \
    X(getdate)                                                                                     \
    X(global_cleanup)                                                                              \
    X(global_init)                                                                                 \
    X(multi_add_handle)                                                                            \
    X(multi_cleanup)                                                                               \
    X(multi_info_read)                                                                             \
    X(multi_init)                                                                                  \
    X(multi_perform)                                                                               \
    X(multi_poll)                                                                                  \
    X(multi_remove_handle)                                                                         \
    X(slist_append)                                                                                \
    X(slist_free_all)                                                                              \
    X(url)                                                                                         \
    X(url_cleanup)                                                                                 \
    X(url_get)                                                                                     \
    X(url_set)                                                                                     \
    X(version_info)

struct libcurl {
#define X(name) __typeof__(curl_##name) *name;
    LIBCURL_FUNCTIONS(X)
#undef X
};

/*
 * Fill the table, loading libcurl when this process does not have it yet; from then on it stays
 * loaded, and this takes microseconds. SM_EUNSUPPORTED when it is not installed, or older than
 * 7.85, with what to do. Any thread.
 */
int libcurl_load(struct libcurl *out, struct sm_error *err);

#endif
