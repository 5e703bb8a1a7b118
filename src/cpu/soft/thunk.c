/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bridges from handlers to the slow memory paths that keep every register but RAX (exec.h says
 * why). In: RDI cpu, RSI op, RAX address, RCX size, RDX value or access kind. Out: RAX.
 */
#include "cpu/soft/exec.h"

#define THUNK(name, target, shuffle)                                                               \
    __asm__(".pushsection .text\n"                                                                 \
            ".globl " name "\n.hidden " name "\n.type " name ", @function\n" name ":\n"            \
            "push %rbp\n\tmov %rsp, %rbp\n\t"                                                      \
            "push %rcx\n\tpush %rdx\n\tpush %rsi\n\tpush %rdi\n\t"                                 \
            "push %r8\n\tpush %r9\n\tpush %r10\n\tpush %r11\n\t"                                   \
            "and $-16, %rsp\n\t" shuffle "call " target "\n\t"                                     \
            "lea -64(%rbp), %rsp\n\t"                                                              \
            "pop %r11\n\tpop %r10\n\tpop %r9\n\tpop %r8\n\t"                                       \
            "pop %rdi\n\tpop %rsi\n\tpop %rdx\n\tpop %rcx\n\tpop %rbp\n\tret\n"                    \
            ".popsection\n")

/* soft_load_slow(cpu, o, va, size) */
THUNK("soft_load_thunk", "soft_load_slow", "mov %rax, %rdx\n\t");
/* soft_store_slow(cpu, o, va, size, value) */
THUNK("soft_store_thunk", "soft_store_slow", "mov %rdx, %r8\n\tmov %rax, %rdx\n\t");
/* soft_ptr_slow(cpu, o, va, size, acc) */
THUNK("soft_ptr_thunk", "soft_ptr_slow", "mov %rdx, %r8\n\tmov %rax, %rdx\n\t");
