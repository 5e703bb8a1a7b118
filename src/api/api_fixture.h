/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the library share: a store of their own in a temporary folder, the built-in
 * image in it, and short ways to VMs. Data comes from the build folder ($SM_BUILD_DIR). */
#ifndef SM_API_FIXTURE_H
#define SM_API_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <supermachine.h>

struct fixture {
    char home[64]; /* the store's folder */
    sm_store *store;
    sm_image *image;
};

/* 0, or -1 after saying why. */
int fixture_open(struct fixture *f);
int fixture_close(struct fixture *f);
/* The way to another handle of the same store. */
void fixture_config(const struct fixture *f, struct sm_store_config *config);

/* The test fails where these do. config may be NULL. */
sm_vm *start_image(sm_image *image, const struct sm_vm_config *config);
sm_vm *start(struct fixture *f, const struct sm_vm_config *config);
/* The output of a shell command in a VM; the caller calls sm_output_fini. */
void output(sm_vm *vm, const char *text, struct sm_output *out);

#endif
