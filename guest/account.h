/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who to run as: Docker's --user against the image's own passwd and group files, which may be
 * missing, huge or malformed. Bounded memory; safe in a forked child.
 */
#ifndef SM_GUEST_ACCOUNT_H
#define SM_GUEST_ACCOUNT_H

#include <stddef.h>
#include <stdint.h>

#define ACCOUNT_ID_MAX                                                                             \
    2147483647u /* as Docker: 2^31-1; anything else is refused, never wrapped                      \
                 */
#define ACCOUNT_GROUPS_MAX 1024u

struct account {
    uint32_t uid, gid;
    size_t group_count; /* supplementary */
    uint32_t groups[ACCOUNT_GROUPS_MAX];
    char home[512]; /* "/" when passwd does not say */
};

/*
 * spec: "", NAME, UID, NAME:GROUP, UID:GID and mixtures. A name is looked up first, then a number
 * is taken as an id; a number without a passwd line gets group 0. Supplementary groups are those
 * that list the user, unless a group is named. 0; -1 with a one-line reason in why.
 */
int account_lookup(const char *passwd_path, const char *group_path, const char *spec,
                   struct account *out, char *why, size_t why_size);

#endif
