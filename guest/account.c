/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Follows what runc and moby do for User (libcontainer/user): the first passwd line whose name or
 * uid matches wins. The files are the image's, so nothing about them is believed: only regular
 * files are read, line by line, and a line that does not parse or exceeds the buffer is passed
 * over.
 */
#include "account.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_SIZE 256
#define LINE_SIZE 65536

/* Strict: decimal digits only, no sign, no blank, within the range. */
static bool parse_id(const char *s, uint32_t *id)
{
    uint64_t v = 0;

    if (!*s)
        return false;
    for (; *s; s++) {
        if (*s < '0' || *s > '9')
            return false;
        v = v * 10 + (uint64_t)(*s - '0');
        if (v > ACCOUNT_ID_MAX)
            return false;
    }
    *id = (uint32_t)v;
    return true;
}

/* A fifo or device in place of the file would block or surprise: treated as missing. */
static FILE *open_lines(const char *path)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat st;
    FILE *f;

    if (fd < 0)
        return NULL;
    f = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? fdopen(fd, "r") : NULL;
    if (!f)
        close(fd);
    return f;
}

/* Next whole line without its newline; NULL at the end. Longer lines are passed over. */
static char *next_line(FILE *f, char line[LINE_SIZE])
{
    while (fgets(line, LINE_SIZE, f)) {
        size_t len = strlen(line);
        if (len && line[len - 1] == '\n') {
            line[len - 1] = 0;
            return line;
        }
        if (len < LINE_SIZE - 1)
            return line; /* the last line, or one with a NUL in it */
        for (int c = getc(f); c != EOF && c != '\n'; c = getc(f))
            ;
    }
    return NULL;
}

/* Cuts line at ':' into exactly max fields, missing ones ""; returns how many there were. */
static size_t split(char *line, char **fields, size_t max)
{
    size_t found = 0;

    for (size_t i = 0; i < max; i++) {
        char *colon = strchr(line, ':');
        fields[i] = line;
        if (*line || colon || i == 0)
            found = i + 1;
        line = colon ? colon + 1 : line + strlen(line);
        if (colon)
            *colon = 0;
    }
    return found;
}

/* Finds a user by name, or by number where id is given. Fills uid, gid, home and name ("" if too
 * long). */
static bool find_user(const char *path, const char *user, const uint32_t *id, struct account *out,
                      char name[NAME_SIZE])
{
    char line[LINE_SIZE], *field[7], *l;
    FILE *f = open_lines(path);
    bool found = false;

    while (f && !found && (l = next_line(f, line))) {
        uint32_t uid, gid;
        if (split(l, field, 7) < 4 || !parse_id(field[2], &uid) || !parse_id(field[3], &gid))
            continue;
        if (strcmp(field[0], user) != 0 && !(id && uid == *id))
            continue;
        found = true;
        out->uid = uid;
        out->gid = gid;
        snprintf(name, NAME_SIZE, "%s", strlen(field[0]) < NAME_SIZE ? field[0] : "");
        if (field[5][0] && strlen(field[5]) < sizeof out->home)
            strcpy(out->home, field[5]);
    }
    if (f)
        fclose(f);
    return found;
}

/* The first group with that name, or that number where id is given. */
static bool find_group(const char *path, const char *group, const uint32_t *id, uint32_t *gid)
{
    char line[LINE_SIZE], *field[4], *l;
    FILE *f = open_lines(path);
    bool found = false;

    while (f && !found && (l = next_line(f, line))) {
        if (split(l, field, 4) < 3 || !parse_id(field[2], gid))
            continue;
        found = strcmp(field[0], group) == 0 || (id && *gid == *id);
    }
    if (f)
        fclose(f);
    return found;
}

static bool lists(char *members, const char *name)
{
    for (char *save, *m = strtok_r(members, ",", &save); m; m = strtok_r(NULL, ",", &save))
        if (strcmp(m, name) == 0)
            return true;
    return false;
}

/* Adds every group whose member list has name. -1 when there are too many. */
static int add_memberships(const char *path, const char *name, struct account *out)
{
    char line[LINE_SIZE], *field[4], *l;
    FILE *f = open_lines(path);
    int status = 0;

    while (f && status == 0 && (l = next_line(f, line))) {
        uint32_t gid;
        if (split(l, field, 4) < 4 || !parse_id(field[2], &gid) || !lists(field[3], name))
            continue;
        if (out->group_count == ACCOUNT_GROUPS_MAX)
            status = -1;
        else
            out->groups[out->group_count++] = gid;
    }
    if (f)
        fclose(f);
    return status;
}

static int refuse(char *why, size_t size, const char *what, const char *item, const char *reason)
{
    snprintf(why, size, "%s \"%.200s\": %s", what, item, reason);
    return -1;
}

static bool all_digits(const char *s)
{
    return *s && strspn(s, "0123456789") == strlen(s);
}

static const char *const unknown_user = "no such user in the image's /etc/passwd";
static const char *const unknown_group = "no such group in the image's /etc/group";
static const char *const out_of_range = "not an id from 0 to 2147483647";

int account_lookup(const char *passwd_path, const char *group_path, const char *spec,
                   struct account *out, char *why, size_t why_size)
{
    char user[NAME_SIZE], name[NAME_SIZE] = "";
    const char *colon = strchr(spec, ':');
    const char *group = colon ? colon + 1 : "";
    size_t len = colon ? (size_t)(colon - spec) : strlen(spec);
    uint32_t id;
    bool numeric;

    memset(out, 0, sizeof *out);
    strcpy(out->home, "/");
    if (len >= sizeof user || strlen(group) >= NAME_SIZE)
        return refuse(why, why_size, "user", spec, "too long");
    snprintf(user, sizeof user, "%.*s", (int)len, spec);
    if (!*user)
        strcpy(user, "0"); /* Docker: no user is root */
    numeric = parse_id(user, &id);
    if (!find_user(passwd_path, user, numeric ? &id : NULL, out, name)) {
        if (!numeric)
            return refuse(why, why_size, "user", user,
                          all_digits(user) || *user == '-' ? out_of_range : unknown_user);
        out->uid = id;
    }
    if (*group) {
        numeric = parse_id(group, &id);
        if (!find_group(group_path, group, numeric ? &id : NULL, &out->gid)) {
            if (!numeric)
                return refuse(why, why_size, "group", group,
                              all_digits(group) || *group == '-' ? out_of_range : unknown_group);
            out->gid = id;
        }
    } else if (*name && add_memberships(group_path, name, out) < 0) {
        return refuse(why, why_size, "user", user, "is in more than 1024 groups");
    }
    return 0;
}
