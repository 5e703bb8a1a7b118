/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a hostile kernel tries, in ring 0: one kind of thing over a range of numbers. Copied to RING0_CODE by
 * ring0_test.c, which gives it paging, a TSS, an IDT whose entries all lead to ring0_fault, and
 * parameters. Uses no address of its own, so it runs wherever it is.
 */
#include "ring0.h"

        .section .rodata
        .globl ring0_start, ring0_fault, ring0_end
ring0_start:
next:   mov     $RING0_STACK, %esp
        cld
        mov     RING0_PARAMS + P_INDEX, %eax
        cmp     RING0_PARAMS + P_LAST, %eax
        ja      done
        mov     %eax, %ebx
        add     RING0_PARAMS + P_STEP, %ebx             /* whatever becomes of this one */
        jc      last
        mov     %ebx, RING0_PARAMS + P_INDEX
        mov     RING0_PARAMS + P_KIND, %ecx
        cmp     $KIND_CPUID, %ecx
        je      cpuid
        cmp     $KIND_MSR, %ecx
        je      msr
        cmp     $KIND_PORT, %ecx
        je      port
        jmp     opcode
last:   movl    $0, RING0_PARAMS + P_LAST
        movl    $1, RING0_PARAMS + P_INDEX
done:   out     %al, $RING0_PORT
        jmp     done

        /* Any exception: on a stack of its own, whatever RSP was. */
ring0_fault:
        incq    RING0_PARAMS + P_FAULTS
        jmp     next

cpuid:  mov     %eax, %esi
        xor     %edi, %edi
1:      mov     %esi, %eax
        mov     %edi, %ecx
        cpuid
        inc     %edi
        cmp     $4, %edi
        jb      1b
        jmp     next

        /* Write back what was read, or what was asked for. */
msr:    mov     %eax, %ecx
        mov     RING0_PARAMS + P_VALUE, %esi
        mov     RING0_PARAMS + P_VALUE + 4, %edi
        test    %esi, %esi
        jnz     1f
        rdmsr
        wrmsr
        jmp     next
1:      mov     %esi, %eax
        mov     %edi, %edx
        wrmsr
        rdmsr
        jmp     next

port:   mov     %eax, %edx
        in      %dx, %al
        in      %dx, %ax
        in      %dx, %eax
        mov     RING0_PARAMS + P_VALUE, %eax
        out     %al, %dx
        out     %ax, %dx
        out     %eax, %dx
        jmp     next

        /* HEAD, the opcode (high byte of the index), ModR/M (low byte), and NOPs up to a jump back,
         * with every register pointing into scratch memory. */
opcode: mov     %eax, %ebx
        mov     $RING0_BUFFER, %edi
        mov     $64, %ecx
        mov     $0x90, %al
        rep stosb
        mov     RING0_PARAMS + P_HEAD, %eax
        mov     %eax, RING0_BUFFER
        mov     RING0_PARAMS + P_HEAD_LEN, %edi
        xchg    %bh, %bl
        mov     %bx, RING0_BUFFER(%rdi)
        movl    $0x90909090, RING0_BUFFER + 2(%rdi)
        movb    $0xe9, RING0_BUFFER + 64                /* jmp next */
        lea     next(%rip), %rax
        sub     $RING0_BUFFER + 69, %rax
        mov     %eax, RING0_BUFFER + 65
        mov     $RING0_SCRATCH, %eax
        mov     %rax, %rbx
        mov     %rax, %rcx
        mov     %rax, %rdx
        mov     %rax, %rsi
        mov     %rax, %rdi
        mov     %rax, %rbp
        mov     %rax, %r8
        mov     %rax, %r9
        mov     %rax, %r10
        mov     %rax, %r11
        mov     %rax, %r12
        mov     %rax, %r13
        mov     %rax, %r14
        mov     %rax, %r15
        mov     $RING0_SCRATCH, %esp
        push    $2
        popfq
        push    $RING0_BUFFER
        ret
ring0_end:

        .section .note.GNU-stack, "", @progbits
