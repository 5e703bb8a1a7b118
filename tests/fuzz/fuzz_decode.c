/* SPDX-License-Identifier: Apache-2.0 */
/* Invariants of insn_decode() on any bytes. */
#include <stdlib.h>
#include <string.h>

#include "cpu/soft/insn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static void check_insn(const struct insn *in, const uint8_t *bytes)
{
    static const uint8_t zero[INSN_MAX_LEN];
    CHECK(in->desc != NULL && in->desc->id > I_INVALID && in->desc->id < I_COUNT);
    CHECK(in->len >= 1 && in->len <= INSN_MAX_LEN);
    CHECK(memcmp(in->bytes, bytes, in->len) == 0);
    CHECK(memcmp(in->bytes + in->len, zero, INSN_MAX_LEN - in->len) == 0);
    CHECK(in->opcode_off < in->len);
    CHECK(in->has_modrm ? in->modrm_off > in->opcode_off && in->modrm_off < in->len
                        : in->modrm_off == 0 && !in->is_mem);
    CHECK(in->disp_off + in->disp_size <= in->len && in->imm_off + in->imm_size <= in->len);
    CHECK((in->disp_size == 0) == (in->disp_off == 0) && (in->imm_size == 0) == (in->imm_off == 0));
    CHECK(in->opsize <= 32 && in->mem_size <= 832);
    CHECK(in->reg < 16 && in->rm < 16 && in->scale < 4 && in->cond < 16 && in->mod < 4);
    CHECK(in->base < 16 || in->base == INSN_NO_REG || in->base == INSN_REG_RIP);
    CHECK(in->index < 16 || in->index == INSN_NO_REG);
    CHECK(in->seg == INSN_NO_SEG || in->seg == 4 || in->seg == 5);
    CHECK(in->rep == REP_NONE || in->rep == REP_REPNE || in->rep == REP_REPE);
    CHECK(!in->lock || (in->is_mem && (in->desc->attr & IA_LOCK) != 0));
    CHECK(in->has_rex == (in->rex != 0 && in->vex_map == 0));
    CHECK(in->vex_map <= 3 && in->vex_pp <= 3 && in->vex_l <= 1 && in->vvvv < 16);
    CHECK(in->vex_map != 0 || (in->vex_pp == 0 && in->vex_l == 0 && in->vvvv == 0));
    if (!in->is_mem) {
        CHECK(in->base == INSN_NO_REG && in->index == INSN_NO_REG && in->disp == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct insn whole, part;
    memset(&whole, 0, sizeof(whole)); /* the padding is compared too */
    memset(&part, 0, sizeof(part));
    enum insn_error e = insn_decode(data, size, &whole);
    if (e == INSN_OK) {
        check_insn(&whole, data);
    } else {
        CHECK(whole.desc == NULL && whole.len <= INSN_MAX_LEN);
        CHECK(e != INSN_TOO_LONG || size >= INSN_MAX_LEN);
        CHECK(e != INSN_TRUNCATED || size < INSN_MAX_LEN);
    }
    for (size_t n = 0; n <= size && n <= INSN_MAX_LEN + 1; n++) {
        /* an exact copy on the heap, so that the sanitizer sees any read past it */
        uint8_t *copy = malloc(n != 0 ? n : 1);
        if (copy == NULL) {
            return 0;
        }
        memcpy(copy, data, n);
        enum insn_error pe = insn_decode(copy, n, &part);
        free(copy);
        if (n >= whole.len) {
            /* everything that was looked at is there */
            CHECK(pe == e || (e == INSN_TOO_LONG && n < INSN_MAX_LEN && pe == INSN_TRUNCATED));
            CHECK(pe != INSN_OK || memcmp(&part, &whole, sizeof(part)) == 0);
        } else {
            CHECK(pe == INSN_TRUNCATED);
        }
    }
    return 0;
}
