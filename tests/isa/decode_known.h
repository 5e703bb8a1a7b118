/* SPDX-License-Identifier: Apache-2.0 */
/* The two tables of permitted differences between insn_decode() and Zydis. */
#ifndef SM_TESTS_DECODE_KNOWN_H
#define SM_TESTS_DECODE_KNOWN_H

#include "decode_oracle.h"

/* 1: an ISA extension outside all CPU models, by ZydisISAExt. What Zydis accepts we must refuse. */
extern const uint8_t decode_outside_model[ZYDIS_ISA_EXT_MAX_VALUE + 1];
/* 1: outside every model but v3. */
extern const uint8_t decode_only_v3[ZYDIS_ISA_EXT_MAX_VALUE + 1];

/* One known difference in a field: it holds for our id and Zydis' mnemonic (0: any) and for these
 * two values (KNOWN_ANY: any). "host" in a reason: also tried on real hardware (AMD Zen 4). */
#define KNOWN_ANY UINT64_MAX
struct decode_known {
    enum oracle_field field;
    uint16_t id;       /* enum insn_id */
    uint16_t mnemonic; /* ZydisMnemonic */
    uint64_t zydis, ours;
    const char *reason;
};
extern const struct decode_known decode_known[];
extern const size_t decode_known_count;

#endif
