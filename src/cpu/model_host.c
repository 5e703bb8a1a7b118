/* SPDX-License-Identifier: Apache-2.0 */
/* Which CPU models this host can run. Ordinary host code, not for a run slice. */
#include <cpuid.h>
#include <stdio.h>
#include <string.h>

#include "cpu/model.h"

enum { WORD_1C, WORD_1D, WORD_7B, WORD_XC, WORD_XS, WORD_COUNT };

static const struct requirement {
    uint8_t word, bit;
    uint8_t from; /* enum model_id */
    const char *name;
} required[] = {
    {WORD_1C, 0, MODEL_V2, "sse3"},     {WORD_1C, 1, MODEL_V2, "pclmulqdq"},
    {WORD_1C, 9, MODEL_V2, "ssse3"},    {WORD_1C, 13, MODEL_V2, "cx16"},
    {WORD_1C, 19, MODEL_V2, "sse4.1"},  {WORD_1C, 20, MODEL_V2, "sse4.2"},
    {WORD_1C, 23, MODEL_V2, "popcnt"},  {WORD_1C, 25, MODEL_V2, "aes"},
    {WORD_1C, 30, MODEL_V2, "rdrand"},  {WORD_1D, 4, MODEL_V2, "tsc"},
    {WORD_1D, 8, MODEL_V2, "cx8"},      {WORD_1D, 15, MODEL_V2, "cmov"},
    {WORD_1D, 23, MODEL_V2, "mmx"},     {WORD_1D, 24, MODEL_V2, "fxsr"},
    {WORD_1D, 25, MODEL_V2, "sse"},     {WORD_1D, 26, MODEL_V2, "sse2"},
    {WORD_XC, 0, MODEL_V2, "lahf"},     {WORD_1C, 12, MODEL_V3, "fma"},
    {WORD_1C, 22, MODEL_V3, "movbe"},   {WORD_1C, 26, MODEL_V3, "xsave"},
    {WORD_1C, 28, MODEL_V3, "avx"},     {WORD_1C, 29, MODEL_V3, "f16c"},
    {WORD_7B, 3, MODEL_V3, "bmi1"},     {WORD_7B, 5, MODEL_V3, "avx2"},
    {WORD_7B, 8, MODEL_V3, "bmi2"},     {WORD_XC, 5, MODEL_V3, "lzcnt"},
    {WORD_XS, 0, MODEL_V3, "xsaveopt"},
};

static const char *const names[] = {[MODEL_V2] = "v2", [MODEL_V3] = "v3"};
#define N_MODELS (sizeof names / sizeof names[0])

/* Does the operating system keep x87, SSE and AVX state? */
static bool os_keeps_avx(uint32_t features_1c)
{
    uint32_t low, high;

    if (!(features_1c & bit_OSXSAVE))
        return false;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & 7) == 7;
}

/* In a VM each CPUID is an exit, of tens of microseconds under nested virtualization: none twice.
 */
static void read_host(uint32_t words[WORD_COUNT])
{
    uint32_t a, b, c, d, last;

    memset(words, 0, WORD_COUNT * sizeof words[0]);
    __cpuid(0, last, b, c, d);
    __cpuid(1, a, b, words[WORD_1C], words[WORD_1D]);
    if (!os_keeps_avx(words[WORD_1C]))
        words[WORD_1C] &= ~(uint32_t)(bit_AVX | bit_FMA | bit_F16C);
    if (last >= 7)
        __cpuid_count(7, 0, a, words[WORD_7B], c, d);
    if (!(words[WORD_1C] & bit_AVX))
        words[WORD_7B] &= ~(uint32_t)bit_AVX2;
    __cpuid(0x80000001, a, b, words[WORD_XC], d); /* where long mode is: it is there */
    if (last >= 0xd)
        __cpuid_count(0xd, 1, words[WORD_XS], b, c, d);
}

/* What the model has and the host has not, separated by commas. False: nothing. */
static bool missing(enum model_id id, const uint32_t words[WORD_COUNT], char *text, size_t size)
{
    size_t len = 0;

    text[0] = 0;
    for (size_t i = 0; i < sizeof required / sizeof required[0]; i++) {
        const struct requirement *r = &required[i];
        if (r->from <= id && !(words[r->word] >> r->bit & 1) && len < size)
            len += (size_t)snprintf(text + len, size - len, "%s%s", len ? ", " : "", r->name);
    }
    return len != 0;
}

const char *model_name(enum model_id id)
{
    return names[id];
}

int model_parse(const char *name, enum model_id *out, struct sm_error *err)
{
    for (size_t id = 0; id < N_MODELS; id++) {
        if (strcmp(name, names[id]) == 0) {
            *out = (enum model_id)id;
            return SM_OK;
        }
    }
    return err_set(err, SM_EINVAL, "unknown CPU model %.60s: there are v2 and v3", name);
}

int model_choose(const char *name, enum model_id *out, struct sm_error *err)
{
    uint32_t words[WORD_COUNT];
    char text[160];
    int rc = name ? model_parse(name, out, err) : SM_OK;

    if (rc)
        return rc;
    read_host(words);
    if (name)
        return missing(*out, words, text, sizeof text)
                   ? err_set(err, SM_EUNSUPPORTED,
                             "CPU model %s needs what this processor lacks: %s", name, text)
                   : SM_OK;
    for (size_t id = N_MODELS; id-- > 0;) {
        *out = (enum model_id)id;
        if (!missing(*out, words, text, sizeof text))
            return SM_OK;
    }
    return err_set(err, SM_EENGINE, "this processor lacks %s, which every CPU model needs", text);
}

const char *model_host_vendor(void)
{
    return model_host_is_amd() ? "amd" : "intel";
}
