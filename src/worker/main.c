// SPDX-License-Identifier: Apache-2.0
/*
 * supermachine-vmm: one VM. Builds the machine while it still can open files, locks itself in, then
 * starts the threads that run the guest. The main thread answers the owner; another waits for the
 * agent's first word, which is the guest's and so is read in here.
 */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/request.h"
#include "worker/args.h"
#include "worker/control.h"
#include "worker/jail.h"

struct self {
    struct vm *vm;
    unsigned jail;
    bool kvm; /* the engine needs calls that the other does not */
};

static _Noreturn void leave(int code)
{
    _exit(code); /* the kernel takes a machine down faster than vm_free() */
}

/* Nobody listens any more: neither does the VM run any more. */
static void tell(const struct control_msg *m, int fd)
{
    if (control_send(CONTROL_FD, m, fd) != 0)
        leave(1);
}

static void tell_ready(unsigned jail, int code, const struct sm_error *err)
{
    struct control_msg m = {.type = CONTROL_READY, .arg = jail};
    if (code)
        control_set_error(&m, code, err);
    tell(&m, -1);
}

static void on_console(void *opaque, const uint8_t *data, size_t len)
{
    struct control_msg m = {.type = CONTROL_CONSOLE};
    for (; len; data += m.len, len -= m.len) {
        m.len = len < CONTROL_TEXT ? (uint32_t)len : CONTROL_TEXT;
        memcpy(m.text, data, m.len);
        tell(&m, -1);
    }
}

/* jail(loop,vcpu): sendmsg */
static void on_thread(void *opaque, enum vm_thread which)
{
    struct self *self = opaque;
    struct sm_error err;
    if (jail_thread(which == VM_THREAD_VCPU ? JAIL_VCPU : JAIL_LOOP, self->kvm, &err) != 0)
        leave(1);
}

/* jail(beacon): poll recvfrom sendmsg close */
static void *wait_for_agent(void *opaque)
{
    struct self *self = opaque;
    struct sm_error err = {0};
    if (jail_thread(JAIL_BEACON, self->kvm, &err) != 0)
        leave(1);
    int rc = vm_wait_agent(self->vm, -1, &err);
    if (!rc) {
        int fd = vm_take_beacon(self->vm);
        rc = request_beacon(fd, INT_MAX, &err);
        close(fd);
    }
    tell_ready(self->jail, rc, &err);
    return NULL;
}

static void connect_guest(struct vm *vm, const struct control_msg *m)
{
    struct control_msg reply = {.type = CONTROL_REPLY, .id = m->id};
    struct sm_error err = {0};
    int fd, rc = vm_connect(vm, m->arg, &fd, &err);
    if (rc)
        control_set_error(&reply, rc, &err);
    tell(&reply, fd);
    if (fd >= 0)
        close(fd);
}

static void tell_end(struct vm *vm)
{
    struct control_msg m = {.type = CONTROL_ENDED};
    struct sm_error err = {0};
    enum vm_end end;
    vm_wait(vm, 0, &end, NULL);
    m.arg = end;
    control_set_error(&m, vm_end_error(vm, &err), &err);
    tell(&m, -1);
}

/* jail(main): poll recvmsg sendmsg close */
static _Noreturn void serve(struct self *self)
{
    struct pollfd p[2] = {{.fd = CONTROL_FD, .events = POLLIN},
                          {.fd = vm_end_fd(self->vm), .events = POLLIN}};
    struct control_msg m;
    int fd;
    for (;;) {
        poll(p, 2, -1);
        if (p[1].revents) {
            tell_end(self->vm);
            leave(0);
        }
        if (!p[0].revents)
            continue;
        if (control_receive(CONTROL_FD, &m, &fd) <= 0)
            leave(0);
        if (fd >= 0)
            close(fd);
        if (m.type == CONTROL_CONNECT)
            connect_guest(self->vm, &m);
    }
}

static const struct engine_ops *find_engine(const char *name)
{
    static const struct engine_ops *const engines[] = {&engine_kvm, &engine_soft};
    for (unsigned i = 0; i < sizeof engines / sizeof engines[0]; i++)
        if (strcmp(engines[i]->name, name) == 0)
            return engines[i];
    return NULL;
}

static int build(char **argv, struct self *self, struct sm_error *err)
{
    const char *layers[VM_MAX_LAYERS];
    struct vm_config config;
    bool console;
    int rc = args_parse(argv, find_engine, &config, layers, &console, err);
    if (rc)
        return rc;
    config.console = console ? on_console : NULL;
    config.on_thread = on_thread;
    config.on_thread_opaque = self;
    self->kvm = config.engine == &engine_kvm;
    rc = vm_new(&config, &self->vm, err);
    rc = rc ? rc : jail_process(&self->jail, err);
    return rc ? rc : vm_start(self->vm, err);
}

int main(int argc, char **argv)
{
    struct self self = {0};
    struct sm_error err = {0};
    pthread_t beacon;
    sigset_t all;
    if (fcntl(CONTROL_FD, F_GETFD) < 0) {
        fputs("supermachine-vmm: not started by libsupermachine; see `supermachine help`\n",
              stderr);
        return 125;
    }
    if (argc == 2 && strcmp(argv[1], CONTROL_PROBE) == 0) {
        int failed = jail_process(&self.jail, &err);
        failed = failed ? failed : jail_thread(JAIL_MAIN, self.kvm, &err);
        tell_ready(self.jail, failed, &err);
        leave(0);
    }
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    int rc = build(argv, &self, &err);
    if (!rc && pthread_create(&beacon, NULL, wait_for_agent, &self) != 0)
        rc = err_set(&err, SM_ENOMEM, "cannot start a thread");
    rc = rc ? rc : jail_thread(JAIL_MAIN, self.kvm, &err);
    if (rc) {
        tell_ready(0, rc, &err);
        leave(1);
    }
    serve(&self);
}
