/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/kvm/kvm_regs.h"

#include <string.h>

/* ---- segments: VMX access rights, bit by bit in KVM ---- */

static struct kvm_segment segment_to_kvm(const struct seg_state *s)
{
    return (struct kvm_segment){
        .base = s->base,
        .limit = s->limit,
        .selector = s->selector,
        .type = s->attr & 0xf,
        .s = s->attr >> 4 & 1,
        .dpl = s->attr >> 5 & 3,
        .present = s->attr >> 7 & 1,
        .avl = s->attr >> 12 & 1,
        .l = s->attr >> 13 & 1,
        .db = s->attr >> 14 & 1,
        .g = s->attr >> 15 & 1,
        .unusable = !(s->attr >> 7 & 1),
    };
}

static struct seg_state segment_from_kvm(const struct kvm_segment *s)
{
    bool present = s->present && !s->unusable;
    unsigned attr = (s->type & 0xfu) | (s->s & 1u) << 4 | (s->dpl & 3u) << 5 |
                    (unsigned)present << 7 | (s->avl & 1u) << 12 | (s->l & 1u) << 13 |
                    (s->db & 1u) << 14 | (s->g & 1u) << 15;

    return (struct seg_state){
        .base = s->base, .limit = s->limit, .selector = s->selector, .attr = (uint16_t)attr};
}

static struct kvm_segment *segment_of(struct kvm_sregs *sregs, unsigned index)
{
    struct kvm_segment *const all[SEG_COUNT] = {
        [SEG_ES] = &sregs->es,    [SEG_CS] = &sregs->cs, [SEG_SS] = &sregs->ss,
        [SEG_DS] = &sregs->ds,    [SEG_FS] = &sregs->fs, [SEG_GS] = &sregs->gs,
        [SEG_LDTR] = &sregs->ldt, [SEG_TR] = &sregs->tr,
    };

    return all[index];
}

/* ---- general registers: RAX RCX RDX RBX RSP RBP RSI RDI R8 ... ---- */

void kvm_regs_put(const struct cpu_state *s, struct kvm_regs *r)
{
    const uint64_t *g = s->gpr;

    *r = (struct kvm_regs){
        .rax = g[0],
        .rcx = g[1],
        .rdx = g[2],
        .rbx = g[3],
        .rsp = g[4],
        .rbp = g[5],
        .rsi = g[6],
        .rdi = g[7],
        .r8 = g[8],
        .r9 = g[9],
        .r10 = g[10],
        .r11 = g[11],
        .r12 = g[12],
        .r13 = g[13],
        .r14 = g[14],
        .r15 = g[15],
        .rip = s->rip,
        .rflags = s->rflags | 2,
    };
}

void kvm_regs_take(const struct kvm_regs *r, struct cpu_state *s)
{
    const uint64_t g[16] = {r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi,
                            r->r8,  r->r9,  r->r10, r->r11, r->r12, r->r13, r->r14, r->r15};

    memcpy(s->gpr, g, sizeof g);
    s->rip = r->rip;
    s->rflags = r->rflags;
}

void kvm_sregs_put(const struct cpu_state *s, struct kvm_sregs *r)
{
    for (unsigned i = 0; i < SEG_COUNT; i++)
        *segment_of(r, i) = segment_to_kvm(&s->seg[i]);
    r->gdt = (struct kvm_dtable){.base = s->gdt_base, .limit = (uint16_t)s->gdt_limit};
    r->idt = (struct kvm_dtable){.base = s->idt_base, .limit = (uint16_t)s->idt_limit};
    r->cr0 = s->cr0;
    r->cr2 = s->cr2;
    r->cr3 = s->cr3;
    r->cr4 = s->cr4;
    r->cr8 = s->cr8;
    r->efer = s->efer;
    r->apic_base = s->apic_base;
    memset(r->interrupt_bitmap, 0, sizeof r->interrupt_bitmap);
}

void kvm_sregs_take(struct kvm_sregs *r, struct cpu_state *s)
{
    for (unsigned i = 0; i < SEG_COUNT; i++)
        s->seg[i] = segment_from_kvm(segment_of(r, i));
    s->gdt_base = r->gdt.base;
    s->gdt_limit = r->gdt.limit;
    s->idt_base = r->idt.base;
    s->idt_limit = r->idt.limit;
    s->cr0 = r->cr0;
    s->cr2 = r->cr2;
    s->cr3 = r->cr3;
    s->cr4 = r->cr4;
    s->cr8 = r->cr8;
    s->efer = r->efer;
    s->apic_base = r->apic_base;
}

/* ---- events under way ---- */

void kvm_events_put(const struct cpu_events *v, struct kvm_vcpu_events *out)
{
    *out = (struct kvm_vcpu_events){
        .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
        .exception = {.injected = v->exception_injected || v->exception_pending,
                      .nr = v->exception_vector,
                      .has_error_code = v->exception_has_code,
                      .error_code = v->exception_code},
        .interrupt = {.injected = v->interrupt_injected,
                      .nr = v->interrupt_vector,
                      .soft = v->interrupt_soft,
                      .shadow = v->shadow},
        .nmi = {.injected = v->nmi_injected, .pending = v->nmi_pending, .masked = v->nmi_masked},
    };
}

/* Without KVM_CAP_EXCEPTION_PAYLOAD, KVM reports a pending exception as an injected one. */
void kvm_events_take(const struct kvm_vcpu_events *in, struct cpu_events *v)
{
    *v = (struct cpu_events){
        .exception_injected = in->exception.injected,
        .exception_has_code = in->exception.has_error_code,
        .exception_vector = in->exception.nr & 31,
        .exception_code = in->exception.error_code,
        .interrupt_injected = in->interrupt.injected,
        .interrupt_soft = in->interrupt.soft,
        .interrupt_vector = in->interrupt.nr,
        .nmi_injected = in->nmi.injected,
        .nmi_pending = in->nmi.pending,
        .nmi_masked = in->nmi.masked,
        .shadow = in->interrupt.shadow & (CPU_SHADOW_MOV_SS | CPU_SHADOW_STI),
    };
}
