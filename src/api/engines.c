// SPDX-License-Identifier: Apache-2.0
/*
 * Which engines there are and which one "automatic" means. kvm is described although this version
 * has none: what the host offers is the first question when a VM is slow.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"

#define CPUINFO_MAX (8u << 20)

/* Is flag a word of the first "flags" line? */
static bool flags_have(const char *text, const char *flag)
{
    const char *line = strstr(text, "\nflags");
    size_t len = strlen(flag), end = line ? 1 + strcspn(line + 1, "\n") : 0;
    for (size_t i = 1; line && i + len <= end; i++)
        if (line[i - 1] == ' ' && strncmp(line + i, flag, len) == 0 &&
            (line[i + len] == ' ' || line[i + len] == '\n' || line[i + len] == 0))
            return true;
    return false;
}

/* VT-x or AMD-V among the processor's features, as Linux names them. */
static bool has_virtualization(void)
{
    struct buf text = {0};
    bool found = false;
    if (io_slurp("/proc/cpuinfo", CPUINFO_MAX, &text, NULL) == 0 && buf_append(&text, "", 1) == 0)
        found = flags_have((char *)text.data, "vmx") || flags_have((char *)text.data, "svm");
    buf_fini(&text);
    return found;
}

static int probe_kvm(struct sm_error *err)
{
    static const char way_out[] =
        "this version has no KVM engine yet in any case: use --engine soft (SM_ENGINE_SOFT)";
    if (access("/dev/kvm", F_OK) != 0)
        return err_set(err, SM_EENGINE, "kvm: /dev/kvm does not exist on this host; %s", way_out);
    if (access("/dev/kvm", R_OK | W_OK) != 0)
        return err_set(err, SM_EENGINE,
                       "kvm: /dev/kvm cannot be opened: %s (usually: join the group kvm); %s",
                       strerror(errno), way_out);
    if (!has_virtualization())
        return err_set(err, SM_EENGINE,
                       "kvm: /dev/kvm is there, but the processor shows neither vmx nor svm; %s",
                       way_out);
    return err_set(err, SM_EENGINE, "kvm: this host has it; %s", way_out);
}

SM_API int sm_engine_info(unsigned index, struct sm_engine_info *out)
{
    memset(out, 0, sizeof *out);
    switch (index) {
    case 0:
        out->name = "kvm";
        out->usable = probe_kvm(&out->error) == 0;
        return 0;
    case 1:
        out->name = engine_soft.name;
        out->usable = out->automatic = engine_soft.probe(&out->error) == 0;
        return 0;
    default:
        return SM_ENOTFOUND;
    }
}

int engines_choose(uint32_t wanted, const struct engine_ops **out, struct sm_error *err)
{
    switch (wanted) {
    case SM_ENGINE_KVM:
        return probe_kvm(err);
    case SM_ENGINE_AUTO:
    case SM_ENGINE_SOFT:
        *out = &engine_soft;
        return engine_soft.probe(err);
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
