/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/soft/breakpoint.h"

/* DR7.R/W, as bits of a set. */
enum { ON_CODE = 1 << 0, ON_WRITE = 1 << 1, ON_PORT = 1 << 2, ON_DATA = 1 << 3 };

/* Of breakpoint i, or 0 when it is off. */
static unsigned kind_of(const struct soft_cpu *cpu, unsigned i)
{
    bool on = cpu->dr7 >> (2 * i) & 3; /* for a task or for all: the same to us */
    return on ? 1u << (cpu->dr7 >> (16 + 4 * i) & 3) : 0;
}

static unsigned matches(const struct soft_cpu *cpu, unsigned kinds, uint64_t va, uint64_t size)
{
    static const uint8_t lengths[4] = {1, 2, 8, 4};
    unsigned found = 0;
    for (unsigned i = 0; i < 4; i++) {
        uint64_t len = lengths[cpu->dr7 >> (18 + 4 * i) & 3];
        uint64_t at = cpu->dr[i] & ~(len - 1);
        if ((kind_of(cpu, i) & kinds) && (at - va < size || va - at < len)) {
            found |= 1u << i;
        }
    }
    return found;
}

static void forget_page(struct soft_cpu *cpu, uint64_t va)
{
    uint64_t page = va & ~0xfffull;
    unsigned slot = (va >> 12) & (SOFT_TLB_SIZE - 1);
    for (unsigned a = 0; a < 4; a++) {
        struct soft_tlb_entry *e = &cpu->tlb[a >> 1][a & 1][slot];
        if (e->tag == page) {
            *e = (struct soft_tlb_entry){.tag = SOFT_TLB_EMPTY(slot)};
        }
    }
}

void break_changed(struct soft_cpu *cpu)
{
    cpu->break_code = 0;
    cpu->access_checks &= (uint8_t)~ACCESS_BREAK;
    for (unsigned i = 0; i < 4; i++) {
        unsigned kind = kind_of(cpu, i);
        if (kind == ON_CODE) {
            cpu->break_code |= (uint8_t)(1u << i);
        } else if (kind) {
            cpu->access_checks |= ACCESS_BREAK;
            forget_page(cpu, cpu->dr[i]);
        }
    }
    if (!cpu->break_code) {
        cpu->sys_flags &= ~(uint64_t)FL_RF; /* nobody would clear it */
    }
}

void break_reset(struct soft_cpu *cpu)
{
    cpu->break_hits = 0;
    cpu->break_careful = false;
    break_changed(cpu);
}

unsigned break_code_at(const struct soft_cpu *cpu, uint64_t va, unsigned size)
{
    return size == 0 ? 0 : matches(cpu, ON_CODE, va, size);
}

bool break_keeps_out(const struct soft_cpu *cpu, uint64_t va, bool user)
{
    if (user && (cpu->access_checks & ACCESS_ALIGN)) {
        return true;
    }
    return (cpu->access_checks & ACCESS_BREAK) &&
           matches(cpu, ON_WRITE | ON_DATA, va & ~0xfffull, 4096);
}

_Noreturn void break_raise(struct soft_cpu *cpu, unsigned why)
{
    /* The bits of other reasons than these are never cleared, as KVM has it, too. */
    cpu->dr6 = (cpu->dr6 & ~(uint64_t)DR6_BREAKS) | why;
    cpu->dr7 &= ~(uint64_t)DR7_GD;
    cpu->insn_rip = cpu->rip;
    soft_raise(cpu, V_DB);
}

static void note(struct soft_cpu *cpu, unsigned kinds, uint64_t va, unsigned size)
{
    unsigned found = matches(cpu, kinds, va, size);
    if (found && !cpu->break_careful) {
        cpu->break_careful = true;
        cpu->mode |= MODE_BREAK;
        cpu->rip = cpu->insn_rip;
        cpu->sys_flags |= cpu->break_code ? FL_RF : 0; /* its own breakpoint has had its turn */
        soft_raise(cpu, BREAK_AGAIN);
    }
    cpu->break_hits |= (uint8_t)found;
}

/* The alignment that an operand of this size is to have; more than 32 bytes are checked by the
 * instructions themselves. */
static unsigned alignment(unsigned size)
{
    switch (size) {
    case 2:
    case 4:
    case 8:
    case 16:
    case 32:
        return size;
    case 10: /* x87: 80 bits, and the environment and state */
        return 8;
    case 28:
    case 108:
        return 4;
    case 14:
    case 94:
        return 2;
    default:
        return 1;
    }
}

void break_access(struct soft_cpu *cpu, uint64_t va, unsigned size, enum soft_access acc)
{
    bool canonical = (uint64_t)((int64_t)(va << 16) >> 16) == va;
    if (cpu->delivering || !canonical) {
        return;
    }
    if ((cpu->access_checks & ACCESS_ALIGN) && (va & (alignment(size) - 1))) {
        soft_raise_code(cpu, V_AC, 0);
    }
    if (cpu->access_checks & ACCESS_BREAK) {
        note(cpu, acc == ACC_READ ? ON_DATA : ON_DATA | ON_WRITE, va, size);
    }
}

void break_port(struct soft_cpu *cpu, unsigned port, unsigned size)
{
    if ((cpu->access_checks & ACCESS_BREAK) && (cpu->cr4 & CR4_DE)) {
        note(cpu, ON_PORT, port, size);
    }
}
