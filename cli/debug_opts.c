// SPDX-License-Identifier: Apache-2.0
#include "debug_opts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int parse_every(struct debug_opts *d, const char *command, const char *value)
{
    char *end;
    errno = 0;
    unsigned long n = strtoul(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end || errno || n < 1 || n > 1000000000)
        return say("%s: --check-every %.60s: must be a number from 1 to 1000000000", command,
                   value);
    d->check_every = (uint32_t)n;
    d->debug |= SM_DEBUG_CHECK;
    return 0;
}

/* An address, hexadecimal with 0x or decimal, up to one of these characters. */
static bool parse_address(const char **at, const char *until, uint64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoull(*at, &end, 0);
    bool good = (*at)[0] >= '0' && (*at)[0] <= '9' && errno == 0 && strchr(until, *end);
    *at = end;
    return good;
}

/* FROM-TO, and what comes after it in *at. */
static bool parse_range(struct debug_opts *d, const char **at)
{
    if (!parse_address(at, "-", &d->code_from) || **at != '-')
        return false;
    ++*at;
    return parse_address(at, ",", &d->code_to) && d->code_from <= d->code_to;
}

static int parse_trace(struct debug_opts *d, const char *command, const char *value)
{
    static const struct {
        const char *name;
        uint32_t bit;
    } levels[] = {{"exits", SM_DEBUG_TRACE_EXITS},
                  {"interrupts", SM_DEBUG_TRACE_INTERRUPTS},
                  {"tlb", SM_DEBUG_TRACE_TLB},
                  {"code=", SM_DEBUG_TRACE_CODE}};
    const char *at = value;
    for (;;) {
        size_t i = 0, n = sizeof levels / sizeof levels[0];
        while (i < n && strncmp(at, levels[i].name, strlen(levels[i].name)) != 0)
            i++;
        if (i == n)
            break;
        at += strlen(levels[i].name);
        if (levels[i].bit == SM_DEBUG_TRACE_CODE && !parse_range(d, &at))
            break;
        d->debug |= levels[i].bit;
        if (!*at)
            return 0;
        if (*at++ != ',')
            break;
    }
    return say("%s: --trace %.100s: must be of exits, interrupts, tlb and code=FROM-TO (addresses, "
               "FROM first), with commas between",
               command, value);
}

int debug_opts_take(struct debug_opts *d, const char *command, int id, const char *value)
{
    switch (id) {
    case DEBUG_OPT_CHECK:
        d->debug |= SM_DEBUG_CHECK;
        return 0;
    case DEBUG_OPT_CHECK_EVERY:
        return parse_every(d, command, value);
    case DEBUG_OPT_TRACE:
        return parse_trace(d, command, value);
    default: /* DEBUG_OPT_FILE */
        d->path = value;
        return 0;
    }
}

static void write_text(void *opaque, const char *text, size_t len)
{
    struct debug_opts *d = opaque;
    FILE *to = d->file ? d->file : stderr;
    for (size_t i = 0; i < len;
         i++) /* harmless to a terminal, whatever the VM's process is by now */
        fputc(text[i] == '\n' || (text[i] >= ' ' && text[i] < 127) ? text[i] : '?', to);
}

int debug_opts_fill(struct debug_opts *d, const char *command, struct sm_vm_config *config)
{
    if (d->path && !(d->file = fopen(d->path, "we")))
        return say("%s: --debug-file %.200s: %s", command, d->path, strerror(errno));
    config->debug = d->debug;
    config->check_every = d->check_every;
    config->code_from = d->code_from;
    config->code_to = d->code_to;
    config->debug_text = write_text;
    config->debug_opaque = d;
    return 0;
}

void debug_opts_fini(struct debug_opts *d)
{
    if (d->file && (ferror(d->file) || fclose(d->file) != 0))
        say("--debug-file %.200s: not all could be written: %s", d->path, strerror(errno));
    d->file = NULL;
}
