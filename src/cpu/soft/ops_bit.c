/* SPDX-License-Identifier: Apache-2.0 */
/* Bit tests, scans and counts; CRC32. */
#include "cpu/soft/ops.h"

/* BT and its writing forms on a register; the host masks the bit number. */
#define BT_REG(name, ins, back, bits, T, sfx)                                                      \
    OP(name##_r##bits)                                                                             \
    {                                                                                              \
        T n = o->index ? REG(T, o->src) : (T)o->imm, d = REG(T, o->dst);                           \
        uint16_t f = cpu->flags;                                                                   \
        __asm__(FLAGS_IN ins sfx " %[n], %[d]" FLAGS_OUT                                           \
                : "+a"(f), [d] "+r"(d)                                                             \
                : [n] "r"(n)                                                                       \
                : "cc");                                                                           \
        cpu->flags = f;                                                                            \
        if (back) {                                                                                \
            SETREG##bits(o->dst, d);                                                               \
        }                                                                                          \
        NEXT;                                                                                      \
    }

/* On memory a register bit number reaches beyond the operand; an immediate one does not. o->dst: 1
 * for a register, 2 with a 67 prefix as well: the address wraps after the bit number is added. */
#define BT_MEM(name, ins, back, bits, T, S, sfx, form, LOCK)                                       \
    OP(name##_##form##bits)                                                                        \
    {                                                                                              \
        uint64_t va = op_ea(cpu, o);                                                               \
        T n = (T)o->imm;                                                                           \
        if (o->dst) {                                                                              \
            n = REG(T, o->src);                                                                    \
            va += (uint64_t)((int64_t)((S)n >> (__builtin_ctz(bits))) * (bits / 8));               \
            if (unlikely(o->dst == 2)) {                                                           \
                uint64_t base = cpu->seg_base[o->scale_seg >> 4];                                  \
                va = (uint32_t)(va - base) + base;                                                 \
            }                                                                                      \
        }                                                                                          \
        n &= bits - 1;                                                                             \
        guest_u##bits *p = op_ptr(cpu, o, va, sizeof(T), back ? LOCK_ACC(LOCK) : ACC_READ);        \
        uint16_t f = cpu->flags;                                                                   \
        __asm__ volatile(FLAGS_IN LOCK ins sfx " %[n], %[d]" FLAGS_OUT                             \
                         : "+a"(f), [d] "+m"(*p)                                                   \
                         : [n] "r"(n)                                                              \
                         : "cc", "memory");                                                        \
        if (back) {                                                                                \
            op_ptr_finish(cpu, o, va, sizeof(T), p);                                               \
        }                                                                                          \
        cpu->flags = f;                                                                            \
        NEXT;                                                                                      \
    }

#define BT_WIDTH(name, ins, back, bits, T, S, sfx)                                                 \
    BT_REG(name, ins, back, bits, T, sfx)                                                          \
    BT_MEM(name, ins, back, bits, T, S, sfx, x, "")
#define BT_ALL(name, ins, back)                                                                    \
    BT_WIDTH(name, ins, back, 16, uint16_t, int16_t, "w")                                          \
    BT_WIDTH(name, ins, back, 32, uint32_t, int32_t, "l")                                          \
    BT_WIDTH(name, ins, back, 64, uint64_t, int64_t, "q")
#define BT_LOCKED(name, ins)                                                                       \
    BT_ALL(name, ins, 1)                                                                           \
    BT_MEM(name, ins, 1, 16, uint16_t, int16_t, "w", l, "lock ")                                   \
    BT_MEM(name, ins, 1, 32, uint32_t, int32_t, "l", l, "lock ")                                   \
    BT_MEM(name, ins, 1, 64, uint64_t, int64_t, "q", l, "lock ")
BT_ALL(bt, "bt", 0)
BT_LOCKED(bts, "bts")
BT_LOCKED(btr, "btr")
BT_LOCKED(btc, "btc")

/* BSF, BSR leave the target as it was for a zero source: the host's own rule, on the whole
 * register. The counts do not, but take the same form. */
#define SCAN(name, ins, bits, T, sfx, mod)                                                         \
    RM_DO(name, bits, T)                                                                           \
    {                                                                                              \
        uint64_t d = REG(uint64_t, o->dst);                                                        \
        uint16_t f = cpu->flags;                                                                   \
        __asm__(FLAGS_IN ins sfx " %[s], %" mod "[d]" FLAGS_OUT                                    \
                : "+a"(f), [d] "+r"(d)                                                             \
                : [s] "r"(s)                                                                       \
                : "cc");                                                                           \
        cpu->flags = f;                                                                            \
        REG(uint64_t, o->dst) = d;                                                                 \
        NEXT;                                                                                      \
    }                                                                                              \
    RM_FORMS(name, bits, T)
#define SCAN_ALL(name, ins)                                                                        \
    SCAN(name, ins, 16, uint16_t, "w", "w")                                                        \
    SCAN(name, ins, 32, uint32_t, "l", "k")                                                        \
    SCAN(name, ins, 64, uint64_t, "q", "q")
SCAN_ALL(bsf, "bsf")
SCAN_ALL(bsr, "bsr")
SCAN_ALL(popcnt, "popcnt")
SCAN_ALL(tzcnt, "tzcnt")
SCAN_ALL(lzcnt, "lzcnt")

#define CRC(bits, T, D, sfx, mod)                                                                  \
    RM_DO(crc, bits, T)                                                                            \
    {                                                                                              \
        D d = REG(uint32_t, o->dst);                                                               \
        __asm__("crc32" sfx " %[s], %" mod "[d]" : [d] "+r"(d) : [s] "q"(s));                      \
        REG(uint64_t, o->dst) = d;                                                                 \
        NEXT;                                                                                      \
    }                                                                                              \
    RM_FORMS(crc, bits, T)
CRC(8, uint8_t, uint32_t, "b", "k")
CRC(16, uint16_t, uint32_t, "w", "k")
CRC(32, uint32_t, uint32_t, "l", "k")
CRC(64, uint64_t, uint64_t, "q", "q")

#define ROW3(name)                                                                                 \
    {                                                                                              \
        name##16, name##32, name##64                                                               \
    }

static void lift_bt(struct lift *l)
{
    static const op_handler table[4][3][3] = {
        {ROW3(bt_r), ROW3(bt_x), ROW3(bt_x)},
        {ROW3(bts_r), ROW3(bts_x), ROW3(bts_l)},
        {ROW3(btr_r), ROW3(btr_x), ROW3(btr_l)},
        {ROW3(btc_r), ROW3(btc_x), ROW3(btc_l)},
    };
    const struct insn *i = l->insn;
    bool by_reg = i->desc->op[1] == O_G;
    unsigned form = !i->is_mem ? 0 : i->lock ? 2 : 1;
    op_handler h = table[i->desc->id - I_BT][form][width_of(i->opsize) - 1];
    bool wraps = i->is_mem && by_reg && i->addr32;
    struct op *o = i->is_mem && !wraps ? lift_emit_mem(l, h) : lift_emit(l, h);
    if (wraps) {
        lift_mem(i, l->next_rip, o);
    }
    o->imm = (uint64_t)i->imm;
    o->src = (uint8_t)(i->reg * 8);
    if (i->is_mem) {
        o->dst = (uint8_t)(by_reg + wraps);
    } else {
        o->dst = (uint8_t)(i->rm * 8);
        o->index = by_reg;
    }
}

static void lift_scan(struct lift *l, const op_handler (*table)[3])
{
    const struct insn *i = l->insn;
    op_handler h = table[i->is_mem][width_of(i->opsize) - 1];
    struct op *o = i->is_mem ? lift_emit_mem(l, h) : lift_emit(l, h);
    o->dst = (uint8_t)(i->reg * 8);
    if (!i->is_mem) {
        o->src = (uint8_t)(i->rm * 8);
    }
}

/* The source's width is the memory operand's; the destination is 32 or 64 bits. */
static void lift_crc(struct lift *l)
{
    static const op_handler table[2][4] = {{crc_r8, crc_r16, crc_r32, crc_r64},
                                           {crc_x8, crc_x16, crc_x32, crc_x64}};
    const struct insn *i = l->insn;
    op_handler h = table[i->is_mem][width_of(i->mem_size)];
    struct op *o = i->is_mem ? lift_emit_mem(l, h) : lift_emit(l, h);
    o->dst = (uint8_t)(i->reg * 8);
    if (!i->is_mem) {
        o->src = lift_reg(i, i->rm, i->mem_size);
    }
}

bool bit_lift(struct lift *l)
{
    static const op_handler scans[5][2][3] = {{ROW3(bsf_r), ROW3(bsf_x)},
                                              {ROW3(bsr_r), ROW3(bsr_x)},
                                              {ROW3(popcnt_r), ROW3(popcnt_x)},
                                              {ROW3(tzcnt_r), ROW3(tzcnt_x)},
                                              {ROW3(lzcnt_r), ROW3(lzcnt_x)}};
    uint64_t model = l->cpu->features;
    switch (l->insn->desc->id) {
    case I_BT ... I_BTC:
        lift_bt(l);
        return true;
    case I_TZCNT: /* older processors ignore the prefix that makes it one */
        lift_scan(l, scans[model & INSN_FEATURE(IFT_BMI1) ? 3 : 0]);
        return true;
    case I_LZCNT:
        lift_scan(l, scans[model & INSN_FEATURE(IFT_LZCNT) ? 4 : 1]);
        return true;
    case I_BSF:
        lift_scan(l, scans[0]);
        return true;
    case I_BSR:
        lift_scan(l, scans[1]);
        return true;
    case I_POPCNT:
        lift_scan(l, scans[2]);
        return true;
    case I_CRC32:
        lift_crc(l);
        return true;
    default:
        return false;
    }
}
