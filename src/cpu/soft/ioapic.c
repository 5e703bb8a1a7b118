/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The I/O APIC. A pin's redirection entry decides when an asserted line becomes a message to local
 * APICs. Messages are posted under the lock (atomics only); the targets are woken after it is
 * dropped.
 */
#include "cpu/soft/ioapic.h"
#include "cpu/soft/lapic.h"
#include "cpu/soft/cpu.h"
#include "cpu/soft/hostcall.h"

#define OFF_SELECT 0x00
#define OFF_WINDOW 0x10
#define OFF_EOI 0x40

#define REG_ID 0x00
#define REG_VERSION 0x01
#define REG_ARBITRATION 0x02
#define REG_REDIRECT 0x10
#define VERSION (0x20u | (IOAPIC_PINS - 1) << 16)

#define RT_LOGICAL 0x0800ull
#define RT_REMOTE_IRR 0x4000ull
#define RT_LEVEL 0x8000ull
#define RT_MASKED 0x10000ull
#define RT_READ_ONLY (0x1000ull | RT_REMOTE_IRR)
#define RT_DEFINED 0xff0000000001ffffull

void soft_ioapic_init(struct soft_ioapic *io, struct engine *engine)
{
    io->engine = engine;
    atomic_flag_clear(&io->lock);
    io->select = 0;
    io->id = 0;
    io->lines = 0;
    for (unsigned i = 0; i < IOAPIC_PINS; i++)
        io->redirect[i] = RT_MASKED;
}

bool soft_ioapic_valid(const uint64_t redirect[IOAPIC_PINS])
{
    for (unsigned i = 0; i < IOAPIC_PINS; i++) {
        uint64_t e = redirect[i];

        if (e & ~RT_DEFINED || (e & RT_REMOTE_IRR && !(e & RT_LEVEL)))
            return false;
    }
    return true;
}

/* Wake the vCPUs of a mask. Not under the lock: waking takes host calls. */
static void wake(struct soft_ioapic *io, uint32_t targets)
{
    for (unsigned i = 0; targets != 0; i++, targets >>= 1) {
        if (targets & 1)
            soft_notify(soft_vcpu(io->engine, i), PEND_IRQ);
    }
}

/* Send the pin's message; returns the mask of vCPUs to wake. Locked. */
static uint32_t send(struct soft_ioapic *io, uint64_t entry)
{
    unsigned mode = entry >> 8 & 7;
    uint32_t dest = (uint32_t)(entry >> 56), targets = 0;

    if (mode > 1) /* neither fixed nor lowest priority */
        return 0;
    if (dest == 0xff)
        dest = 0xffffffff;
    for (unsigned i = 0; i < ENGINE_MAX_VCPUS; i++) {
        struct soft_cpu *cpu = soft_vcpu(io->engine, i);

        if (cpu == NULL)
            break;
        if (!soft_lapic_match(cpu, dest, entry & RT_LOGICAL))
            continue;
        soft_lapic_post(cpu, entry & 0xff, entry & RT_LEVEL);
        targets |= 1u << i;
        if (mode == 1)
            break;
    }
    return targets;
}

/* A level-triggered pin that is asserted and waits for no EOI sends. Locked. */
static uint32_t service_level(struct soft_ioapic *io, unsigned pin)
{
    uint64_t e = io->redirect[pin];

    if (!(io->lines >> pin & 1) || !(e & RT_LEVEL) || (e & (RT_MASKED | RT_REMOTE_IRR)))
        return 0;
    io->redirect[pin] |= RT_REMOTE_IRR;
    return send(io, e);
}

void soft_ioapic_set(struct soft_ioapic *io, unsigned gsi, int level)
{
    uint32_t targets = 0;

    if (gsi >= IOAPIC_PINS)
        return;
    spin_lock(&io->lock);
    if (level == 0) {
        io->lines &= ~(1u << gsi);
    } else {
        bool rises = !(io->lines >> gsi & 1);
        uint64_t e = io->redirect[gsi];

        io->lines |= 1u << gsi;
        if (e & RT_LEVEL)
            targets = service_level(io, gsi);
        else if (rises && !(e & RT_MASKED))
            targets = send(io, e);
    }
    spin_unlock(&io->lock);
    wake(io, targets);
}

/* Clear remote IRR of matching pins; those still asserted send again. Locked. */
static uint32_t end_of_interrupt(struct soft_ioapic *io, unsigned vector)
{
    uint32_t targets = 0;

    for (unsigned i = 0; i < IOAPIC_PINS; i++) {
        uint64_t e = io->redirect[i];

        if ((e & 0xff) != vector || !(e & RT_LEVEL) || !(e & RT_REMOTE_IRR))
            continue;
        io->redirect[i] &= ~RT_REMOTE_IRR;
        targets |= service_level(io, i);
    }
    return targets;
}

void soft_ioapic_eoi(struct soft_ioapic *io, unsigned vector)
{
    uint32_t targets;

    spin_lock(&io->lock);
    targets = end_of_interrupt(io, vector);
    spin_unlock(&io->lock);
    wake(io, targets);
}

static uint32_t read_register(const struct soft_ioapic *io)
{
    unsigned reg = io->select & 0xff;

    if (reg == REG_ID || reg == REG_ARBITRATION)
        return io->id;
    if (reg == REG_VERSION)
        return VERSION;
    if (reg < REG_REDIRECT || reg >= REG_REDIRECT + 2 * IOAPIC_PINS)
        return 0;
    return (uint32_t)(io->redirect[(reg - REG_REDIRECT) / 2] >> (reg & 1 ? 32 : 0));
}

static uint32_t write_register(struct soft_ioapic *io, uint32_t value)
{
    unsigned reg = io->select & 0xff, pin;
    uint64_t e, old;

    if (reg == REG_ID)
        io->id = value & 0x0f000000;
    if (reg < REG_REDIRECT || reg >= REG_REDIRECT + 2 * IOAPIC_PINS)
        return 0;
    pin = (reg - REG_REDIRECT) / 2;
    old = io->redirect[pin];
    if (reg & 1)
        e = (old & 0xffffffff) | (uint64_t)value << 32;
    else
        e = (old & ~0xffffffffull) | value;
    e = (e & RT_DEFINED & ~RT_READ_ONLY) | (old & RT_READ_ONLY);
    if (!(e & RT_LEVEL)) /* an edge entry has no remote IRR: Linux clears a stuck one this way */
        e &= ~RT_REMOTE_IRR;
    io->redirect[pin] = e;
    return service_level(io, pin);
}

static uint64_t ioapic_read(void *opaque, uint64_t offset, unsigned size)
{
    struct soft_ioapic *io = opaque;
    uint32_t value = 0;

    spin_lock(&io->lock);
    if (offset == OFF_SELECT)
        value = io->select;
    else if (offset == OFF_WINDOW)
        value = read_register(io);
    spin_unlock(&io->lock);
    return size >= 4 ? value : value & ((1u << (size * 8)) - 1);
}

static void ioapic_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct soft_ioapic *io = opaque;
    uint32_t targets = 0;

    spin_lock(&io->lock);
    if (offset == OFF_SELECT)
        io->select = (uint32_t)value & 0xff;
    else if (offset == OFF_WINDOW)
        targets = write_register(io, (uint32_t)value);
    else if (offset == OFF_EOI)
        targets = end_of_interrupt(io, value & 0xff);
    spin_unlock(&io->lock);
    wake(io, targets);
}

const struct bus_ops soft_ioapic_ops = {.read = ioapic_read, .write = ioapic_write};
