// SPDX-License-Identifier: Apache-2.0
/* Which engines there are and which one "automatic" means. */
#include <string.h>

#include "api/api.h"
#include "base/err.h"

/* In the order in which "automatic" tries them. */
static const struct engine_ops *const engines[] = {&engine_kvm, &engine_soft};
#define N_ENGINES (sizeof engines / sizeof engines[0])

SM_API int sm_engine_info(unsigned index, struct sm_engine_info *out)
{
    memset(out, 0, sizeof *out);
    if (index >= N_ENGINES)
        return SM_ENOTFOUND;
    out->name = engines[index]->name;
    out->usable = engines[index]->probe(&out->error) == 0;
    out->automatic = out->usable;
    for (unsigned i = 0; i < index && out->automatic; i++)
        out->automatic = engines[i]->probe(NULL) != 0;
    return 0;
}

int engines_choose(uint32_t wanted, const struct engine_ops **out, struct sm_error *err)
{
    int rc = SM_EENGINE;
    switch (wanted) {
    case SM_ENGINE_KVM:
        *out = &engine_kvm;
        return engine_kvm.probe(err);
    case SM_ENGINE_SOFT:
        *out = &engine_soft;
        return engine_soft.probe(err);
    case SM_ENGINE_AUTO: /* when none is usable, the last says why */
        for (unsigned i = 0; i < N_ENGINES && rc; i++) {
            *out = engines[i];
            rc = engines[i]->probe(i + 1 < N_ENGINES ? NULL : err);
        }
        return rc;
    default:
        return err_set(err, SM_EINVAL, "there is no engine number %u", wanted);
    }
}

SM_API void sm_limits(struct sm_limits *out)
{
    uint64_t max = vm_memory_max() >> 21 << 1; /* what an odd size is rounded to is possible too */
    *out = (struct sm_limits){
        .memory_min_mib = VM_MEMORY_MIN >> 20,
        .memory_max_mib = max < UINT32_MAX ? (uint32_t)max : UINT32_MAX - 1,
        .memory_default_mib = API_MEMORY_DEFAULT_MIB,
        .vcpus_max = ENGINE_MAX_VCPUS,
    };
}
