/* SPDX-License-Identifier: Apache-2.0 */
/* A VM of its own for each task: four threads take VMs from a pool that starts them ahead. */
#include <pthread.h>
#include <stdio.h>
#include <supermachine.h>

#define TASKS 4

struct task {
    pthread_t thread;
    sm_pool *pool;
    int number, code;
};

static void *work(void *opaque)
{
    struct task *task = opaque;
    char command[64];
    const char *const argv[] = {"sh", "-c", command, NULL};
    struct sm_exec_spec spec = SM_EXEC_SPEC_INIT;
    struct sm_output output = {0};
    struct sm_error err = {0};
    sm_vm *vm = NULL;

    snprintf(command, sizeof command, "exit $((%d * %d))", task->number, task->number);
    spec.argv = argv;
    if (sm_pool_acquire(task->pool, &vm, &err) ||
        sm_exec_output(vm, &spec, 0, 60000, &output, &err))
        fprintf(stderr, "%s\n", err.text);
    task->code = output.outcome.code;
    sm_output_fini(&output);
    sm_pool_release(task->pool, vm, NULL); /* the next task gets a fresh VM */
    return NULL;
}

int main(int argc, char **argv)
{
    struct sm_pool_config config = SM_POOL_CONFIG_INIT;
    struct task tasks[TASKS];
    struct sm_error err = {0};
    sm_store *store = NULL;
    sm_image *image = NULL;
    sm_pool *pool = NULL;

    config.min = 1;
    config.max = 2;
    int failed = sm_store_open(NULL, &store, &err) ||
                 sm_image_from_oci(store, argc > 1 ? argv[1] : "busybox", &image, &err) ||
                 sm_pool_new(image, &config, &pool, &err);
    if (failed)
        fprintf(stderr, "%s\n", err.text);
    for (int i = 0; !failed && i < TASKS; i++) {
        tasks[i] = (struct task){.pool = pool, .number = i + 1};
        pthread_create(&tasks[i].thread, NULL, work, &tasks[i]);
    }
    for (int i = 0; !failed && i < TASKS; i++) {
        pthread_join(tasks[i].thread, NULL);
        printf("%d squared is %d\n", tasks[i].number, tasks[i].code);
    }
    sm_pool_free(pool);
    sm_image_free(image);
    sm_store_free(store);
    return failed;
}
