/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of struct cpu_state, to and from what KVM calls the same things. Private to kvm/. */
#ifndef SM_KVM_REGS_H
#define SM_KVM_REGS_H

#include "cpu/kvm/kvm.h"

/* kvm_regs.c. A conversion to KVM's form leaves alone what cpu_state does not have. */
void kvm_regs_put(const struct cpu_state *s, struct kvm_regs *out);
void kvm_regs_take(const struct kvm_regs *in, struct cpu_state *s);
void kvm_sregs_put(const struct cpu_state *s, struct kvm_sregs *out);
void kvm_sregs_take(struct kvm_sregs *in, struct cpu_state *s);
void kvm_events_put(const struct cpu_events *events, struct kvm_vcpu_events *out);
void kvm_events_take(const struct kvm_vcpu_events *in, struct cpu_events *events);

/* kvm_msrs.c. Only while the vCPU is not running. */
int kvm_msrs_reset(struct engine *e, unsigned vcpu, struct sm_error *err);
int kvm_msrs_get(struct engine *e, unsigned vcpu, struct cpu_state *s, struct sm_error *err);
/* All but the deadline and the clock pages. */
int kvm_msrs_set(struct engine *e, unsigned vcpu, const struct cpu_state *s, struct sm_error *err);
/* Those that act at once: after the local APIC is there. */
int kvm_msrs_set_timers(struct engine *e, unsigned vcpu, const struct cpu_state *s,
                        struct sm_error *err);

/* As kvm_failed, for state that KVM refuses: then SM_ECORRUPT. */
int kvm_refused(struct sm_error *err, const char *what);

#endif
