// SPDX-License-Identifier: Apache-2.0
/*
 * supermachine-vmm: one VM. Builds the machine while it still can open files, locks itself in, then
 * starts the threads that run the guest, which begin when all are locked in. The main thread
 * answers the owner. After a boot another waits for the agent's first word, which is the guest's
 * and so is read in here.
 */
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/request.h"
#include "worker/args.h"
#include "worker/control.h"
#include "worker/jail.h"
#include "worker/serve.h"

struct self {
    struct vm *vm;
    struct args_machine machine;
    unsigned jail;
    bool kvm;             /* the engine needs calls that the other does not */
    pthread_mutex_t gate; /* held until the main thread is confined */
};

static int seal(void *opaque, struct sm_error *err)
{
    _Static_assert(JAIL_FOLDERS_MAX >= VM_MAX_VOLUMES, "all may be folders");
    struct self *self = opaque;
    const struct vm_config *config = &self->machine.config;
    struct jail_reach reach = {.self_fd = config->self_fd};
    for (unsigned i = 0; i < config->n_volumes; i++) {
        if (!config->volumes[i].folder)
            continue;
        reach.folders[reach.n].fd = config->volumes[i].fd;
        reach.folders[reach.n++].read_only = config->volumes[i].read_only;
        reach.files += VM_FOLDER_FILES;
    }
    return jail_process(&reach, &self->jail, err);
}

/* What folders need besides themselves. */
static int open_self(struct vm_config *config, struct sm_error *err)
{
    for (unsigned i = 0; i < config->n_volumes; i++) {
        if (!config->volumes[i].folder)
            continue;
        config->self_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
        return config->self_fd < 0 ? err_sys(err, "cannot open /proc/self/fd") : 0;
    }
    return 0;
}

static void on_thread(void *opaque, enum vm_thread which)
{
    static const enum jail_role roles[] = {
        [VM_THREAD_LOOP] = JAIL_LOOP, [VM_THREAD_VCPU] = JAIL_VCPU, [VM_THREAD_SHARE] = JAIL_SHARE};
    struct self *self = opaque;
    struct sm_error err;
    if (jail_thread(roles[which], self->kvm, &err) != 0)
        _exit(1);
    pthread_mutex_lock(&self->gate);
    pthread_mutex_unlock(&self->gate);
}

/* jail(beacon): poll recvfrom close */
static void *wait_for_agent(void *opaque)
{
    struct self *self = opaque;
    struct sm_error err = {0};
    pthread_setname_np(pthread_self(), "sm-beacon");
    if (jail_thread(JAIL_BEACON, self->kvm, &err) != 0)
        _exit(1);
    int rc = vm_wait_agent(self->vm, -1, &err);
    if (!rc) {
        int fd = vm_take_beacon(self->vm);
        rc = request_beacon(fd, INT_MAX, &err);
        close(fd);
    }
    serve_ready(self->jail, rc, &err);
    return NULL;
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
    struct args_machine *machine = &self->machine;
    int rc = args_parse(argv, find_engine, machine, err);
    if (!rc && machine->config.snapshot)
        rc = snapshot_read(&machine->snapshot, CONTROL_STATE_FD, CONTROL_RAM_FD,
                           machine->base ? CONTROL_BASE_FD : -1, err);
    rc = rc ? rc : open_self(&machine->config, err);
    if (rc)
        return rc;
    machine->config.console = machine->console ? serve_console : NULL;
    machine->config.debug.text = serve_debug; /* which says nothing unless something is on */
    machine->config.warning = serve_warning;
    machine->config.seal = seal;
    machine->config.on_thread = on_thread;
    machine->config.hooks_opaque = self;
    self->kvm = machine->config.engine == &engine_kvm;
    return vm_new(&machine->config, &self->vm, err);
}

static int start(struct self *self, struct sm_error *err)
{
    pthread_t beacon;
    pthread_mutex_lock(&self->gate);
    int rc = vm_start(self->vm, err);
    if (!rc && !self->machine.config.snapshot &&
        pthread_create(&beacon, NULL, wait_for_agent, self) != 0)
        rc = err_set(err, SM_ENOMEM, "cannot start a thread");
    rc = rc ? rc : jail_thread(JAIL_MAIN, self->kvm, err);
    if (!rc)
        pthread_mutex_unlock(&self->gate);
    return rc;
}

int main(int argc, char **argv)
{
    struct self self = {.gate = PTHREAD_MUTEX_INITIALIZER};
    struct sm_error err = {0};
    sigset_t all;
    mallopt(M_ARENA_MAX, 1); /* more would cost memory, and ask for the number of processors */
    if (fcntl(CONTROL_FD, F_GETFD) < 0) {
        fputs("supermachine-vmm: not started by libsupermachine; see `supermachine help`\n",
              stderr);
        return 125;
    }
    if (argc == 2 && strcmp(argv[1], CONTROL_PROBE) == 0) {
        const struct jail_reach nothing = {0};
        int failed = jail_process(&nothing, &self.jail, &err);
        failed = failed ? failed : jail_thread(JAIL_MAIN, self.kvm, &err);
        serve_ready(self.jail, failed, &err);
        _exit(0);
    }
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    int rc = build(argv, &self, &err);
    rc = rc ? rc : start(&self, &err);
    if (rc || self.machine.config.snapshot) /* whose agent serves already */
        serve_ready(self.jail, rc, &err);
    if (rc)
        _exit(1);
    serve(self.vm);
}
