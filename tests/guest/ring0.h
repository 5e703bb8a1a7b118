/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by ring0.S and ring0_test.c: where things are in the guest's memory. */
#ifndef SM_RING0_H
#define SM_RING0_H

#define RING0_CODE 0x5000
#define RING0_PARAMS 0x6000
#define RING0_GDT 0x6400
#define RING0_TSS 0x6500
#define RING0_IDT 0x7000
#define RING0_STACK 0x9000
#define RING0_FAULT_STACK 0xa000
#define RING0_BUFFER 0xa000
#define RING0_SCRATCH 0xc000
#define RING0_PORT 0xe0 /* written when the range is through */

/* Parameters. */
#define P_KIND 0
#define P_INDEX 4 /* of the next try */
#define P_LAST 8
#define P_STEP 12
#define P_HEAD 16 /* bytes before the opcode */
#define P_HEAD_LEN 20
#define P_VALUE 24
#define P_FAULTS 32

#define KIND_CPUID 0
#define KIND_MSR 1
#define KIND_PORT 2
#define KIND_OPCODE 3

#endif
