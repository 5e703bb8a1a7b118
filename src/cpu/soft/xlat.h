/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The translator: host code for blocks that run often. A block's code does what its operations do,
 * with twelve guest registers in host registers throughout, and leaves to the interpreter's handler
 * of an operation whenever that operation is anything but the plain case: the probe misses, a
 * device or code page is touched, the run loop must look around, or the instruction is not
 * translated. It leaves before the instruction has changed anything, with the state that the
 * interpreter would have there; so there is one slow path only, the interpreter, and nothing is
 * ever undone.
 *
 * Registers in translated code: RDI the vCPU; RAX and RSI scratch; RSP the host's stack; the rest
 * hold guest registers as xlat_home() says. Guest R8 to R11 stay in memory: they are the rarest in
 * real code. Arithmetic flags are in soft_cpu.flags wherever the code can be left; between two
 * instructions also in the host's EFLAGS while nothing disturbs them. Guest SSE state is in the
 * host's SSE registers anyway (native.h).
 *
 * Code goes from block to block through block.body, which enters the interpreter for a block that
 * is not translated or was dropped. Jumps backwards and to computed addresses look at pending and
 * budget first, so every loop does.
 *
 * All of it runs inside run slices; code belongs to one vCPU, as its blocks do.
 */
#ifndef SM_SOFT_XLAT_H
#define SM_SOFT_XLAT_H

#include "cpu/soft/emit.h"
#include "cpu/soft/exec.h"
#include "cpu/soft/soft.h"

/* How an instruction is translated. */
enum xlat_kind {
    XK_ISLAND, /* not: the interpreter runs it */
    XK_SKIP,   /* has no effect */
    XK_AS_IS,  /* its own bytes: VZEROUPPER, VZEROALL */
    XK_MODRM,  /* itself, with other registers and address */
    XK_ACC,    /* short form with the accumulator: as the long form */
    XK_MOVI,
    XK_LEA,
    XK_BSWAP,
    XK_CONVERT, /* CWDE CDQE CDQ CQO */
    XK_MUL,     /* one-operand MUL and IMUL */
    XK_CMPXCHG,
    XK_PUSH,
    XK_POP,
    XK_LEAVE,
    XK_JCC,
    XK_JMP,
    XK_CALL,
    XK_JMP_RM,
    XK_CALL_RM,
    XK_RET,
};

#define XLAT_NO_OP 0xffff

struct xlat_insn {
    struct insn insn;
    uint64_t next_rip;
    uint16_t op;   /* index of its first operation, or XLAT_NO_OP (fused with the one before) */
    uint16_t link; /* a branch: index of its first link */
    uint8_t kind;  /* enum xlat_kind */
    bool exits;    /* may leave to the interpreter: flags must be in memory before it */
    bool save;     /* its flags must go to memory */
    uint16_t reads, writes, changes; /* IF_*; writes: surely; changes: perhaps */
};

/* A forward jump to code out of the way, written after the block's. */
struct xlat_cold {
    uint8_t *from;
    uint16_t op;
    uint8_t what;
};
enum {
    XC_OP,     /* to the interpreter at op */
    XC_SIDE,   /* through the link op */
    XC_BY_LINK /* to the interpreter at the operation in RSI */
};
#define XLAT_MAX_COLD (BLOCK_MAX_INSNS * 10)

struct xlat_entry {
    uint16_t op;
    const void *code;
};

/* One per block cache. */
struct xlat {
    struct stub_area *area; /* owned */
    struct emit_buf b;
    unsigned hot;          /* runs of a block before it is translated; 0: never */
    const void *interpret; /* body of blocks without code; in: RAX the block */
    const uint8_t *load;   /* load guest registers, then jump to RAX */
    const uint8_t *leave;  /* store guest registers and RCX as the block, then jump to RAX */
    bool poll_links;       /* look around at every way out of a block, not only backwards */
    bool full;             /* the area is: nothing more is translated until the cache is reset */

    /* under construction */
    struct block *block;
    unsigned n, n_cold, n_entries;
    const uint8_t *body;    /* where the block's code begins */
    const uint8_t *way_out; /* of the block, once it is written */
    bool flags_valid;       /* the host's EFLAGS are the guest's, all six */
    struct xlat_insn insns[BLOCK_MAX_INSNS];
    struct xlat_cold cold[XLAT_MAX_COLD];
    struct xlat_entry entries[BLOCK_MAX_INSNS];
};

/* ---- xlat_class.c ---- */

/* Fill kind, exits, reads, writes and changes for in->insn in a block of this mode, on a model with
 * these features (INSN_MODEL_*). */
void xlat_classify(struct xlat_insn *in, uint32_t mode, uint64_t features);

/* ---- xlat_mem.c: registers, addresses, probes, flags ---- */

/* Host register of a guest register, or H_NONE when it is in memory. */
unsigned xlat_home(unsigned gpr);
struct host_mem xlat_slot(unsigned gpr); /* its place in memory */
/* A host register that holds the guest register: its home, or scratch, loaded if load. */
unsigned xlat_use(struct xlat *x, unsigned gpr, unsigned scratch, bool load);
/* Store host register reg as the guest register: nothing when it is its home. */
void xlat_put(struct xlat *x, unsigned gpr, unsigned reg);
/* RAX = the address of the memory operand. Clobbers RSI, no flags unless there is a segment. */
void xlat_address(struct xlat *x, const struct xlat_insn *in);
/* RAX from guest address to host address; a miss leaves before in. Clobbers RSI and flags. */
void xlat_probe(struct xlat *x, const struct xlat_insn *in, unsigned size, bool store, bool align);
/* Guest flags into EFLAGS. Clobbers RAX. */
void xlat_load_flags(struct xlat *x);
/* CF only, other flags are lost. Clobbers nothing else. */
void xlat_load_carry(struct xlat *x);
/* After an instruction that writes flags: into memory if they must be. Clobbers RAX. */
void xlat_flags_done(struct xlat *x, const struct xlat_insn *in);
/* Jump on this condition to the interpreter, at an operation. */
void xlat_exit_if(struct xlat *x, unsigned cond, unsigned op);
void xlat_note_cold(struct xlat *x, uint8_t *from, unsigned op, unsigned what);

/* ---- xlat_int.c, xlat_jump.c: one instruction ---- */
void xlat_int(struct xlat *x, const struct xlat_insn *in);
void xlat_jump(struct xlat *x, const struct xlat_insn *in);
/* Through a link operation to the next block. */
void xlat_link(struct xlat *x, unsigned op);

#endif
