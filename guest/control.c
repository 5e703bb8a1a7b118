/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A SETUP is checked whole before any of it is done. Where the agent is not PID 1 (tests on the
 * host) it is checked only: clock, entropy and host name belong to somebody else there.
 */
#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "bake.h"
#include "etc.h"
#include "klog.h"
#include "volumes.h"

/* <linux/random.h>, which musl's include path does not have (random(4)). */
#define RNDADDENTROPY _IOW('R', 0x03, int[2])
#define RNDRESEEDCRNG _IO('R', 0x07)

struct setup {
    struct codec_item items[PROTO_ITEM_END]; /* by key; data NULL: not given */
};

static int setup_parse(const struct codec_frame *f, struct setup *out)
{
    struct codec_item item;
    size_t at = 0;
    int more;

    memset(out, 0, sizeof *out);
    while ((more = codec_item_next(f->payload, f->length, &at, &item)) > 0) {
        bool text = item.key != PROTO_ITEM_CLOCK && item.key != PROTO_ITEM_ENTROPY &&
                    item.key != PROTO_ITEM_VOLUMES;
        if (out->items[item.key].data || (text && memchr(item.data, 0, item.length)))
            return -1; /* given twice, or a text with a NUL */
        if (item.key == PROTO_ITEM_VOLUMES && !volumes_valid(&item))
            return -1;
        out->items[item.key] = item;
    }
    return more;
}

/* Mix, credit and use at once: after a restore this comes before any user process (architecture.md
 * 6). */
static int add_entropy(const struct codec_item *i)
{
    struct {
        int bits, bytes;
        uint8_t data[PROTO_ENTROPY_MAX];
    } pool = {.bits = (int)i->length * 8, .bytes = (int)i->length};
    int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC | O_NOCTTY), status;

    if (fd < 0)
        return -1;
    memcpy(pool.data, i->data, i->length);
    status = ioctl(fd, RNDADDENTROPY, &pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0 ? -1 : 0;
    explicit_bzero(&pool, sizeof pool);
    close(fd);
    return status;
}

static int set_clock(const struct codec_item *i)
{
    uint64_t ns = codec_u64(i->data);
    struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};

    return clock_settime(CLOCK_REALTIME, &t);
}

static int fail(struct launch_report *r, const char *what)
{
    r->class = PROTO_ERR_INTERNAL;
    r->os_errno = (uint32_t)errno;
    snprintf(r->text, sizeof r->text, "cannot set %s: %s", what, strerror(errno));
    return 0;
}

static int setup(struct server *server, const struct setup *s, struct launch_report *r)
{
    const struct codec_item *entropy = &s->items[PROTO_ITEM_ENTROPY];
    const struct codec_item *clock = &s->items[PROTO_ITEM_CLOCK];
    const struct codec_item *name = &s->items[PROTO_ITEM_HOSTNAME];
    const struct codec_item *hosts = &s->items[PROTO_ITEM_HOSTS];
    const struct codec_item *resolv = &s->items[PROTO_ITEM_RESOLV_CONF];
    const struct codec_item *machine_id = &s->items[PROTO_ITEM_MACHINE_ID];
    const struct codec_item *volumes = &s->items[PROTO_ITEM_VOLUMES];

    if (entropy->data && add_entropy(entropy) < 0)
        return fail(r, "the random seed");
    if (clock->data && set_clock(clock) < 0)
        return fail(r, "the clock");
    if (name->data && etc_set_hostname((const char *)name->data, name->length) < 0)
        return fail(r, "the host name");
    if ((name->data || hosts->data) &&
        etc_write_hosts((const char *)hosts->data, hosts->length) < 0)
        return fail(r, "/etc/hosts");
    if (resolv->data &&
        etc_write_file("/etc/resolv.conf", (const char *)resolv->data, resolv->length) < 0)
        return fail(r, "/etc/resolv.conf");
    if (machine_id->data && etc_set_machine_id((const char *)machine_id->data, machine_id->length,
                                               server_wrote_machine_id(server)) < 0)
        klog_info("/etc/machine-id not written: %s", strerror(errno));
    if (volumes->data && volumes_mount(volumes, r->text, sizeof r->text) < 0) {
        r->class = PROTO_ERR_VOLUME;
        r->os_errno = (uint32_t)errno;
    }
    return 0;
}

int control_request(struct server *s, const struct codec_frame *f, struct launch_report *r)
{
    struct setup items;
    uint32_t grace_ms;

    switch (f->type) {
    case PROTO_PING:
        return 0;
    case PROTO_BAKE:
        if (server_is_init(s))
            bake_make_small();
        return 0;
    case PROTO_SHUTDOWN:
        codec_u32_parse(f, &grace_ms);
        if (grace_ms > PROTO_GRACE_MAX_MS)
            return -1;
        server_shutdown(s, grace_ms);
        return 0;
    case PROTO_SETUP:
        if (setup_parse(f, &items) < 0)
            return -1;
        return server_is_init(s) ? setup(s, &items, r) : 0;
    default:
        return -1;
    }
}
