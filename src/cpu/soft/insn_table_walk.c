/* SPDX-License-Identifier: Apache-2.0 */
/* Enumerates the decode table for test generators. Not used by the decoder. */
#include "cpu/soft/insn_node.h"

/* A position in the walk: what the nodes above have fixed. -1: not fixed. */
struct walk {
    void (*fn)(void *opaque, unsigned map, unsigned opcode, unsigned prefix, int sub,
               const struct insn_desc *desc);
    void *opaque;
    bool legacy;
    unsigned map, opcode, prefix;
    int mod, reg, rm;
};

static void report(const struct walk *w, const struct insn_desc *row)
{
    if (w->map != 4) {
        int sub = w->rm >= 0 ? 0xc0 | w->reg << 3 | w->rm : w->reg;
        w->fn(w->opaque, w->map, w->opcode, w->prefix, sub, row);
        return;
    }
    if (w->mod == 0) {
        w->fn(w->opaque, 4, w->opcode, w->prefix, w->reg << 3, row);
        return;
    }
    for (int rm = 0; rm < 8; rm++) {
        if (w->rm < 0 || w->rm == rm) {
            w->fn(w->opaque, 4, w->opcode, w->prefix, 0xc0 | w->reg << 3 | rm, row);
        }
    }
}

static void walk_node(const struct walk *w, const struct insn_node *node)
{
    static const uint8_t prefixes[4] = {0, 0x66, 0xf3, 0xf2};
    static const uint8_t counts[] = {
        [NK_PREFIX] = 4, [NK_REP] = 4,  [NK_MOD] = 2,  [NK_REG] = 8, [NK_RM] = 8,
        [NK_OPSZ] = 3,   [NK_REXB] = 2, [NK_VEXL] = 2, [NK_VEXW] = 2};
    if (node->kind == NK_UD) {
        return;
    }
    if (node->kind == NK_ROW) {
        report(w, node->row);
        return;
    }
    if (node->kind == NK_MODE) {
        walk_node(w, &node->sub[w->legacy]);
        return;
    }
    unsigned n = counts[node->kind];
    if (w->legacy && (node->kind == NK_OPSZ || node->kind == NK_REXB)) {
        n--; /* the last one needs a REX prefix */
    }
    for (unsigned i = 0; i < n; i++) {
        struct walk next = *w;
        switch (node->kind) {
        case NK_PREFIX:
        case NK_REP:
            next.prefix = prefixes[i];
            break;
        case NK_MOD:
            next.mod = i == 0 ? 0 : 3;
            break;
        case NK_REG:
            next.reg = (int)i;
            break;
        case NK_RM:
            next.rm = (int)i;
            break;
        default:
            break; /* by operand size, REX.B, VEX.L or VEX.W: each row is reported */
        }
        walk_node(&next, &node->sub[i]);
    }
}

void insn_table_walk(bool legacy,
                     void (*fn)(void *opaque, unsigned map, unsigned opcode, unsigned prefix,
                                int sub, const struct insn_desc *desc),
                     void *opaque)
{
    static const struct insn_node *const maps[8] = {
        insn_map_1byte, insn_map_0f,      insn_map_0f38,   insn_map_0f3a,
        NULL, /* x87, out of the first */
        insn_map_vex0f, insn_map_vex0f38, insn_map_vex0f3a};
    for (unsigned map = 0; map < 8; map++) {
        if (maps[map] == NULL) {
            continue;
        }
        for (unsigned opcode = 0; opcode < 256; opcode++) {
            bool x87 = map == 0 && opcode >= 0xd8 && opcode <= 0xdf;
            struct walk w = {.fn = fn,
                             .opaque = opaque,
                             .legacy = legacy,
                             .map = x87 ? 4 : map,
                             .opcode = opcode,
                             .mod = -1,
                             .reg = -1,
                             .rm = -1};
            walk_node(&w, &maps[map][opcode]);
        }
    }
}
