/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The software engine behind cpu/engine.h: makes and frees what the run loop works on. Nothing here
 * runs inside a slice.
 */
#include "cpu/soft/soft.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/debug.h"
#include "cpu/model.h"
#include "cpu/soft/check.h"
#include "cpu/soft/fpstate.h"
#include "cpu/soft/ioapic.h"
#include "cpu/soft/lapic.h"
#include "cpu/soft/run.h"
#include "cpu/soft/soft_state.h"
#include "cpu/soft/stub.h"
#include "cpu/soft/time.h"
#include "cpu/soft/xlat.h"
#include "cpu/tsc.h"

#define STUB_BYTES (1u << 20)
#define XLAT_BYTES (8u << 20)
#define XLAT_HOT 40 /* runs of a block before translating it pays */

static int soft_probe(struct sm_error *err)
{
    enum model_id model;
    return model_choose(NULL, &model, err);
}

static int make_pages(struct engine *e, struct sm_error *err)
{
    e->code_by = calloc(e->n_pages, 1);
    e->written_by = calloc(e->n_pages, 1);
    if (!e->code_by || !e->written_by) {
        return err_set(err, SM_ENOMEM, "out of memory for the soft engine");
    }
    return SM_OK;
}

static int make_xlat(struct xlat **out, enum engine_translate what, bool poll_links,
                     struct sm_error *err)
{
    static const unsigned hot[] = {
        [ENGINE_TRANSLATE_HOT] = XLAT_HOT, [ENGINE_TRANSLATE_ALL] = 1, [ENGINE_TRANSLATE_NONE] = 0};
    struct xlat *x = *out = calloc(1, sizeof *x);
    if (!x) {
        return err_set(err, SM_ENOMEM, "out of memory for the translator");
    }
    int rc = stub_area_new(&x->area, XLAT_BYTES, err);
    if (!rc) {
        x->hot = hot[what];
        x->poll_links = poll_links;
        xlat_reset(x);
    }
    return rc;
}

static void free_xlat(struct xlat *x)
{
    if (x) {
        stub_area_free(x->area);
    }
    free(x);
}

/* Do blocks run one by one? */
static bool watched(const struct engine_debug *debug)
{
    return debug->check || (debug->trace & ENGINE_TRACE_CODE);
}

static int make_cache(struct engine *e, struct block_cache **out, struct sm_error *err)
{
    struct block_cache *c = *out = calloc(1, sizeof *c);
    if (!c) {
        return err_set(err, SM_ENOMEM, "out of memory for the code cache");
    }
    atomic_flag_clear(&c->stale.lock);
    c->arena = malloc(BLOCK_ARENA_BYTES);
    c->pages = calloc(e->n_pages, sizeof *c->pages);
    c->builder = malloc(lift_builder_size());
    if (!c->arena || !c->pages || !c->builder) {
        return err_set(err, SM_ENOMEM, "out of memory for the code cache");
    }
    int rc = stub_area_new(&c->stubs, STUB_BYTES, err);
    return rc ? rc : make_xlat(&c->xlat, e->config.translate, watched(&e->config.debug), err);
}

static void free_cache(struct block_cache *c)
{
    if (!c) {
        return;
    }
    free(c->arena);
    free(c->pages);
    free(c->builder);
    stub_area_free(c->stubs);
    free_xlat(c->xlat);
    free(c);
}

static void soft_destroy(struct engine *e)
{
    if (!e) {
        return;
    }
    for (unsigned i = 0; i < ENGINE_MAX_VCPUS; i++) {
        if (e->cpus[i]) {
            check_free(e->cpus[i]);
            free_cache(e->cpus[i]->cache);
            free(e->cpus[i]->lapic);
            free(e->cpus[i]);
        }
    }
    free((void *)e->code_by);
    free((void *)e->written_by);
    free(e->ioapic);
    free(e);
}

static int make_cpu(struct engine *e, unsigned index, enum model_id model, struct sm_error *err)
{
    struct soft_cpu *cpu = aligned_alloc(64, (sizeof *cpu + 63) & ~(size_t)63);
    if (!cpu) {
        return err_set(err, SM_ENOMEM, "out of memory for a vCPU");
    }
    memset(cpu, 0, sizeof *cpu);
    e->cpus[index] = cpu;
    cpu->engine = e;
    cpu->index = index;
    cpu->idle.khz = e->tsc_khz;
    cpu->trace = (uint8_t)e->config.debug.trace;
    cpu->gen[GEN_LOCAL] = cpu->gen[GEN_GLOBAL] = cpu->gen[GEN_PAGE] = 1;
    cpu->model = model;
    cpu->features = model >= MODEL_V3 ? INSN_MODEL_V3 : INSN_MODEL_V2;
    atomic_store(&cpu->resting, true);
    cpu->lapic = calloc(1, sizeof *cpu->lapic);
    if (!cpu->lapic) {
        return err_set(err, SM_ENOMEM, "out of memory for a local APIC");
    }
    int rc = make_cache(e, &cpu->cache, err);
    if (rc) {
        return rc;
    }
    soft_lapic_init(cpu->lapic);
    soft_tlb_flush(cpu, false);
    soft_fp_init(cpu);
    soft_sys_reset(cpu);
    return e->config.debug.check ? check_new(cpu, err) : SM_OK;
}

static void on_dma(void *opaque, gpa_t gpa, uint64_t len)
{
    struct engine *e = opaque;
    if (e->config.debug.check) {
        atomic_fetch_add(&e->device_writes, 1);
    }
    blocks_note_write(e, gpa, len);
}

static int soft_create(const struct engine_config *config, struct engine **out,
                       struct sm_error *err)
{
    if (config->n_vcpus < 1 || config->n_vcpus > ENGINE_MAX_VCPUS) {
        return err_set(err, SM_EINVAL, "the soft engine runs 1 to %d vCPUs, not %u",
                       ENGINE_MAX_VCPUS, config->n_vcpus);
    }
    enum model_id model;
    int rc = model_choose(config->cpu_model, &model, err);
    if (rc) {
        return rc;
    }
    struct engine *e = calloc(1, sizeof *e);
    if (!e) {
        return err_set(err, SM_ENOMEM, "out of memory for the soft engine");
    }
    e->config = *config;
    e->slice = watched(&config->debug) ? soft_run_slice_watched : soft_run_slice;
    e->n_pages = config->mem->ram_bytes >> 12;
    e->tsc_khz = config->tsc_khz ? config->tsc_khz : tsc_khz(NULL);
    if (!e->tsc_khz) {
        free(e);
        return err_set(err, SM_EENGINE, "this machine has no usable time stamp counter");
    }
    e->ioapic = calloc(1, sizeof *e->ioapic);
    if (!e->ioapic) {
        rc = err_set(err, SM_ENOMEM, "out of memory for the soft engine");
    } else {
        soft_ioapic_init(e->ioapic, e);
    }
    rc = rc ? rc : make_pages(e, err);
    for (unsigned i = 0; !rc && i < config->n_vcpus; i++) {
        rc = make_cpu(e, i, model, err);
    }
    if (rc) {
        soft_destroy(e);
        return rc;
    }
    config->mem->on_write = on_dma;
    config->mem->on_write_opaque = e;
    *out = e;
    return SM_OK;
}

static int soft_run(struct engine *e, unsigned vcpu, enum vcpu_exit *exit, struct sm_error *err)
{
    struct soft_cpu *cpu = e->cpus[vcpu];
    world_enter(cpu);
    soft_fp_enter(cpu);
    *exit = e->slice(cpu);
    soft_fp_leave(cpu);
    world_rest(cpu);
    if (cpu->trace & ENGINE_TRACE_EXITS) {
        static const char *const names[] = {[VCPU_EXIT_KICKED] = "kicked",
                                            [VCPU_EXIT_SHUTDOWN] = "shutdown",
                                            [VCPU_EXIT_FAILED] = "failed"};
        debug_line(&e->config.debug, vcpu, "exit %s rip %#llx", names[*exit],
                   (unsigned long long)cpu->rip);
    }
    if (*exit == VCPU_EXIT_FAILED && !(cpu->check && check_report(cpu, err))) {
        return err_set(err, SM_EENGINE, "the soft engine stopped at RIP %#llx: %s",
                       (unsigned long long)cpu->insn_rip, cpu->failure);
    }
    return *exit == VCPU_EXIT_FAILED ? SM_EENGINE : SM_OK;
}

static void soft_kick(struct engine *e, unsigned vcpu)
{
    soft_notify(e->cpus[vcpu], PEND_KICK);
}

static void soft_irq(struct engine *e, unsigned gsi, int level)
{
    soft_ioapic_set(e->ioapic, gsi, level);
}

const struct engine_ops engine_soft = {
    .name = "soft",
    .probe = soft_probe,
    .create = soft_create,
    .destroy = soft_destroy,
    .run = soft_run,
    .kick = soft_kick,
    .irq = soft_irq,
    .get_machine = soft_get_machine,
    .set_machine = soft_set_machine,
    .get_state = soft_get_state,
    .set_state = soft_set_state,
};
