/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs inside a guest booted with sm.selftest=1 and talks to the agent over vsock's loopback, as
 * the host would: the whole agent in its real surroundings, before there is a monitor to host it.
 * Prints "driver: ok NAME" or "driver: FAILED NAME ..." per case, and ends the machine by SHUTDOWN.
 * Used by tests/guest/boot.sh.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/client.h"
#include "agent/proto.h"
#include "agent/request.h"
#include "vsock_addr.h"

#define BULK "8388608"
#define BULK_BYTES 8388608u
#define OUTPUT_MAX 8192u

struct outcome {
    int status;
    struct client_result result;
    struct sm_error err;
    size_t len[2];
    char text[2][OUTPUT_MAX + 1]; /* the beginning of each stream */
};

static int connect_agent(void)
{
    struct vsock_addr a = {.family = AF_VSOCK, .port = PROTO_PORT, .cid = VSOCK_CID_LOCAL};
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
        perror("driver: FAILED connect");
        exit(1);
    }
    return fd;
}

static int collect(void *opaque, int stream, const void *data, size_t len)
{
    struct outcome *o = opaque;
    size_t *have = &o->len[stream - 1];

    if (*have < OUTPUT_MAX)
        memcpy(o->text[stream - 1] + *have, data,
               len < OUTPUT_MAX - *have ? len : OUTPUT_MAX - *have);
    *have += len;
    return 0;
}

static void run(struct client_spec spec, struct outcome *o)
{
    int fd = connect_agent();
    struct client *c;

    memset(o, 0, sizeof *o);
    spec.output = collect;
    spec.opaque = o;
    o->status = client_new(&c, fd, &spec, &o->err);
    if (o->status == 0)
        o->status = client_run(c, 60000, &o->result, &o->err);
    client_free(c);
    close(fd);
}

static void check(const char *name, const struct outcome *o, int status, int code, const char *out,
                  const char *err)
{
    bool ok = o->status == status && o->result.code == code &&
              (!out || strcmp(o->text[0], out) == 0) && (!err || strcmp(o->text[1], err) == 0);

    printf(ok ? "driver: ok %s\n"
              : "driver: FAILED %s status %d code %d out \"%s\" err \"%s\" (%s)\n",
           name, o->status, o->result.code, o->text[0], o->text[1], o->err.text);
}

/* Valid until the next call. */
static struct client_spec shell(const char *script)
{
    static const char *argv[4];
    struct client_spec spec = CLIENT_SPEC_INIT;

    argv[0] = "/bin/sh";
    argv[1] = "-c";
    argv[2] = script;
    spec.argv = argv;
    return spec;
}

static void expect(const char *name, const char *script, int code, const char *out, const char *err)
{
    struct outcome o;

    run(shell(script), &o);
    check(name, &o, 0, code, out, err);
}

static void basics(void)
{
    static const char *const none[] = {"nosuch", NULL}, *const dir[] = {"/etc", NULL};
    static const char *const env[] = {"A=b", NULL};
    struct client_spec spec = CLIENT_SPEC_INIT;
    struct outcome o;

    expect("streams", "echo out; echo err >&2; exit 7", 7, "out\n", "err\n");
    expect("signal", "kill -9 $$", 137, "", "");
    spec.argv = none;
    run(spec, &o);
    check("not-found", &o, SM_ENOTFOUND, 127, "", "");
    spec.argv = dir;
    run(spec, &o);
    check("not-executable", &o, SM_EINVAL, 126, "", "");
    spec =
        shell("echo $A; pwd; id -u; id -G; echo $HOME $HOSTNAME; touch /x 2>&1 | grep -c denied");
    spec.env = env;
    spec.cwd = "/new/dir";
    spec.make_cwd = true;
    spec.user = "app";
    run(spec, &o);
    check("env-cwd-user", &o, 0, 0, "b\n/new/dir\n1000\n1001 6\n/home/app supermachine\n1\n", "");
    spec = shell("tty; stty size; echo $TERM");
    spec.tty = true;
    spec.rows = 33;
    spec.cols = 77;
    run(spec, &o);
    check("terminal", &o, 0, 0, "/dev/pts/0\r\n33 77\r\nxterm\r\n", "");
}

static void surroundings(void)
{
    expect("init-is-immortal", "trap '' TERM; kill -9 1; kill -15 1; sleep 0.1; cat /proc/1/comm",
           0, "init\n", "");
    expect("init-hands-on", "trap 'echo TERM; exit 3' TERM; kill 1; sleep 5", 3, "TERM\n", "");
    expect("init-is-hidden", "ls -a / | tr '\\n' ' '", 0,
           ". .. bin dev etc moved new proc run selftest selftest-driver sys tmp ", "");
    expect("loopback", "ifconfig lo | grep -c 'UP.*RUNNING'", 0, "1\n", "");
    expect(
        "devices",
        "for d in null zero full random urandom tty ptmx; do test -c /dev/$d || echo no $d; done; "
        "echo x > /dev/stdout; echo a | cat /dev/stdin; test -d /dev/shm && test -d /dev/fd/",
        0, "x\na\n", "");
    expect("orphans",
           "for i in 1 2 3 4 5; do (sleep 0.1 &) ; done; sleep 0.5; grep -l 'State:.Z' "
           "/proc/[0-9]*/status | wc -l",
           0, "0\n", NULL);
    expect("limits", "ulimit -n; ulimit -Hn; umask", 0, "1024\n524288\n0022\n", "");
}

/* Called first: it changes what surroundings() lists. */
static void overlay(void)
{
    expect("overlay-rename", "mv /only-lower /moved && ls /moved", 0, "file\n", "");
    expect("overlay-copy-up",
           "echo more >> /moved/file && cat /moved/file && rm /bin/false && test ! -e /bin/false",
           0, "content\nmore\n", "");
    expect("layers", "cat /selftest", 0, "upper\n", "");
    expect("resolv", "test -f /etc/resolv.conf && test ! -L /etc/hosts && cat /etc/hostname", 0,
           "supermachine\n", "");
}

static void *feed(void *fd)
{
    static char zeros[65536];
    int out = *(int *)fd;

    for (size_t left = BULK_BYTES; left;) {
        ssize_t n = write(out, zeros, left < sizeof zeros ? left : sizeof zeros);
        if (n <= 0)
            break;
        left -= (size_t)n;
    }
    close(out);
    return NULL;
}

static void bulk(void)
{
    struct client_spec spec;
    struct outcome want, o;
    pthread_t thread;
    int fds[2];

    run(shell("head -c " BULK " /dev/zero | sha256sum"), &want);
    if (pipe(fds) < 0 || pthread_create(&thread, NULL, feed, &fds[1])) {
        puts("driver: FAILED bulk setup");
        return;
    }
    spec = shell("sha256sum");
    spec.stdin_fd = fds[0];
    run(spec, &o);
    close(fds[0]);
    pthread_join(thread, NULL);
    check("bulk-stdin", &o, 0, 0, want.text[0], "");
    run(shell("head -c " BULK " /dev/zero; head -c " BULK " /dev/zero >&2"), &o);
    printf("driver: %s bulk-output %zu %zu\n",
           o.len[0] == BULK_BYTES && o.len[1] == BULK_BYTES ? "ok" : "FAILED", o.len[0], o.len[1]);
}

static void many(void)
{
    struct outcome before, o;

    run(shell("ls /proc/1/fd | wc -l"), &before);
    for (int i = 0; i < 200; i++) {
        run(shell("exit 3"), &o);
        if (o.result.code != 3)
            break;
    }
    check("200-sessions", &o, 0, 3, "", "");
    expect("no-leak", "ls /proc/1/fd | wc -l", 0, before.text[0], "");
}

static void control(void)
{
    struct request_setup setup = {.hostname = "renamed",
                                  .resolv_conf = "nameserver 10.0.2.3\n",
                                  .hosts = "10.0.2.2\tgateway\n",
                                  .clock_ns = UINT64_C(1900000000000000000),
                                  .entropy = "0123456789abcdef0123456789abcdef",
                                  .entropy_len = 32};
    struct sm_error err = {0};
    int fd = connect_agent();

    if (request_setup(fd, &setup, 10000, &err))
        printf("driver: FAILED setup %s\n", err.text);
    close(fd);
    expect(
        "setup",
        "hostname; cat /etc/hostname /etc/resolv.conf; grep -c gateway /etc/hosts; date +%s | cut "
        "-c1-7",
        0, "renamed\nrenamed\nnameserver 10.0.2.3\n1\n1900000\n", "");
    fd = connect_agent();
    printf("driver: %s ping\n", request_ping(fd, 10000, &err) == 0 ? "ok" : "FAILED");
    close(fd);
}

int main(void)
{
    struct sm_error err = {0};
    struct client_spec spec;
    struct client_result result;
    struct client *c;
    int fd, stubborn = connect_agent();

    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, SIG_IGN); /* SHUTDOWN sends it to us as well */
    basics();
    overlay();
    surroundings();
    bulk();
    many();
    control();
    spec = shell("trap '' TERM; echo up; while :; do sleep 1; done");
    /* One process that SIGTERM does not end. */
    if (client_new(&c, stubborn, &spec, &err) == 0)
        client_run(c, 500, &result, &err);
    fd = connect_agent();
    printf("driver: %s shutdown %s\n", request_shutdown(fd, 500, 10000, &err) ? "FAILED" : "ok",
           err.text);
    return 0;
}
