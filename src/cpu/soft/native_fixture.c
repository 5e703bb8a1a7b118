// SPDX-License-Identifier: Apache-2.0
#include "cpu/soft/native_fixture.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/soft/fpstate.h"
#include "cpu/soft/stub.h"

int native_fixture_init(struct native_fixture *f)
{
    memset(f, 0, sizeof(*f));
    if (oracle_init(&f->oracle) != 0 || stub_area_new(&f->stubs, 1 << 20, NULL) != 0) {
        return -1;
    }
    f->d = aligned_alloc(64, (sizeof(*f->d) + 63) & ~(size_t)63);
    if (f->d == NULL) {
        return -1;
    }
    memset(f->d, 0, sizeof(*f->d));
    f->d->stubs = f->stubs;
    f->d->lo = (uint64_t)(uintptr_t)f->oracle.data;
    f->d->hi = f->d->lo + ORACLE_DATA_BYTES;
    double_tlb(f->d, true);
    soft_fp_init(&f->d->cpu);
    f->d->cpu.cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
    return 0;
}

void native_fixture_fini(struct native_fixture *f)
{
    oracle_fini(&f->oracle);
    stub_area_free(f->stubs);
    free(f->d);
}
