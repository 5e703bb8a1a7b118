/* SPDX-License-Identifier: Apache-2.0 */
/* What native_test.c and native_diff_test.c share: a vCPU of test doubles whose memory is the
 * oracle's. */
#ifndef SM_SOFT_NATIVE_FIXTURE_H
#define SM_SOFT_NATIVE_FIXTURE_H

#include "cpu/soft/native_double.h"
#include "cpu/soft/native_oracle.h"

struct native_fixture {
    struct oracle oracle;
    struct native_double *d;
    struct stub_area *stubs;
};

/* 0 or -1; fini releases what init left, also after it failed. */
int native_fixture_init(struct native_fixture *f);
void native_fixture_fini(struct native_fixture *f);

#endif
