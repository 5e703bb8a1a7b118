/* SPDX-License-Identifier: Apache-2.0 */
/* What the operating mode and the segments mean for the blocks and the TLBs. */
#include "cpu/soft/legacy.h"
#include "cpu/soft/soft.h"

/* Writable, from 0 to 4 GiB: nothing to add, nothing to check. */
static bool flat(const struct seg_state *s)
{
    return (s->attr & (SA_P | SA_S | SA_CODE | SA_CONFORM | SA_WRITE)) ==
               (SA_P | SA_S | SA_WRITE) &&
           s->base == 0 && s->limit == 0xffffffff;
}

static void enter_legacy(struct soft_cpu *cpu)
{
    /* The upper halves are undefined from here on (SDM vol. 1, 3.4.1.1); 32-bit handlers count on
     * zeros. */
    for (unsigned i = 0; i < 8; i++) {
        cpu->gpr[i] = (uint32_t)cpu->gpr[i];
    }
    cpu->rip = (uint32_t)cpu->rip;
}

uint32_t legacy_mode_bits(struct soft_cpu *cpu, uint32_t old)
{
    const struct seg_state *cs = &cpu->seg[SEG_CS], *ss = &cpu->seg[SEG_SS];
    uint64_t cs_base = cpu->seg_base[SEG_CS];
    uint32_t mode = 0;
    if (!(cpu->efer & EFER_LMA) || !(cs->attr & SA_L)) {
        if (!(old & MODE_LEGACY)) {
            enter_legacy(cpu);
        }
        mode = MODE_LEGACY;
        mode |= legacy_real(cpu) ? MODE_REAL : 0;
        mode |= cs->attr & SA_DB ? 0 : MODE_CODE16;
        mode |= ss->attr & SA_DB ? 0 : MODE_STACK16;
        mode |= cs->limit == 0xffffffff ? 0 : MODE_CODE_LIMIT;
        mode |= flat(&cpu->seg[SEG_ES]) && flat(ss) && flat(&cpu->seg[SEG_DS]) ? 0 : MODE_SEGMENTED;
        for (unsigned i = SEG_ES; i <= SEG_DS; i++) {
            cpu->seg_base[i] = cpu->seg[i].base;
        }
        soft_tlb_low(cpu);
    } else if (old & MODE_LEGACY) {
        for (unsigned i = SEG_ES; i <= SEG_DS; i++) {
            cpu->seg_base[i] = 0;
        }
    }
    if (cpu->seg_base[SEG_CS] != cs_base || (mode & MODE_CODE_LIMIT)) {
        soft_code_flush(cpu); /* the jump cache knows offsets in CS, and targets inside its limit */
    }
    return mode;
}
