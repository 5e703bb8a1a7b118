/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes pull, remove, collect and look, at random, in one store, as fast as they can. The
 * model: what a record names is there for as long as the record is. A reader that misses something
 * of an image must find that the record has gone or changed meanwhile. SM_MODEL_OPS: how many
 * operations, in all (default 4000; the long form is 100000).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "image/gc.h"
#include "image/reach_set.h"

#define IMAGES 10
#define UNIVERSE 14 /* layers that images choose from */
#define LAYERS 3    /* of an image */
#define PROCESSES 4

struct document {
    char digest[DIGEST_STR_SIZE];
    char *text; /* owned */
};

struct model_image {
    struct catalog_record record;
    struct document manifest, config;
    unsigned layers[LAYERS];
};

struct model {
    char dir[64];
    struct document blobs[UNIVERSE];
    char diff_ids[UNIVERSE][DIGEST_STR_SIZE];
    struct model_image images[IMAGES];
};

static void finish(struct document *d)
{
    assert_non_null(d->text);
    hash_bytes(d->text, strlen(d->text), d->digest);
}

static void make_image(struct model *m, unsigned i)
{
    struct model_image *im = &m->images[i];
    for (unsigned k = 0; k < LAYERS; k++) {
        im->layers[k] = (i * 5 + k * (i + 1)) % UNIVERSE;
    }
    const unsigned *l = im->layers;
    im->config.text = io_format(
        "{\"os\":\"linux\",\"architecture\":\"amd64\",\"author\":\"%u\",\"rootfs\":{\"type\":"
        "\"layers\",\"diff_ids\":[\"%s\",\"%s\",\"%s\"]}}",
        i, m->diff_ids[l[0]], m->diff_ids[l[1]], m->diff_ids[l[2]]);
    finish(&im->config);
#define LAYER                                                                                      \
    "{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"size\":5,\"digest\":\"%s\"}"
    im->manifest.text =
        io_format("{\"schemaVersion\":2,\"config\":{\"mediaType\":\"application/"
                  "vnd.oci.image.config.v1+json\","
                  "\"size\":%zu,\"digest\":\"%s\"},\"layers\":[" LAYER "," LAYER "," LAYER "]}",
                  strlen(im->config.text), im->config.digest, m->blobs[l[0]].digest,
                  m->blobs[l[1]].digest, m->blobs[l[2]].digest);
    finish(&im->manifest);
    snprintf(im->record.name, sizeof im->record.name, "docker.io/library/image%u:latest", i);
    strcpy(im->record.manifest, im->manifest.digest);
    im->record.manifest_bytes = strlen(im->manifest.text);
    strcpy(im->record.media_type, "application/vnd.oci.image.manifest.v1+json");
    strcpy(im->record.config, im->config.digest);
}

static int setup(void **state)
{
    struct model *m = calloc(1, sizeof *m);
    if (!m) {
        return -1;
    }
    /* In memory: it is about order, not about disks. */
    strcpy(m->dir, access("/dev/shm", W_OK) ? "/tmp/sm-model.XXXXXX" : "/dev/shm/sm-model.XXXXXX");
    if (!mkdtemp(m->dir)) {
        return -1;
    }
    for (unsigned i = 0; i < UNIVERSE; i++) {
        m->blobs[i].text = io_format("blob%u", i % 10);
        m->blobs[i].text[0] = (char)('a' + i / 10);
        finish(&m->blobs[i]);
        hash_bytes(&i, sizeof i, m->diff_ids[i]);
    }
    for (unsigned i = 0; i < IMAGES; i++) {
        make_image(m, i);
    }
    *state = m;
    return 0;
}

static int teardown(void **state)
{
    struct model *m = *state;
    char *command = io_format("rm -rf '%s'", m->dir);
    int rc = command ? system(command) : -1;
    free(command);
    for (unsigned i = 0; i < UNIVERSE; i++) {
        free(m->blobs[i].text);
    }
    for (unsigned i = 0; i < IMAGES; i++) {
        free(m->images[i].manifest.text);
        free(m->images[i].config.text);
    }
    free(m);
    return rc;
}

static int hold_layer(struct store *s, const char *diff_id, struct store_held *held,
                      struct sm_error *err)
{
    for (;;) {
        struct store_item item = {0};
        int rc = store_hold(s, STORE_LAYER, diff_id, held, err);
        if (rc != SM_ENOTFOUND || (rc = store_item_begin(s, STORE_LAYER, diff_id, &item, err))) {
            return rc;
        }
        if (item.present) {
            continue;
        }
        rc = io_write_full(item.fd, diff_id, 20) ? SM_EIO : store_item_commit(&item, held, err);
        store_item_abort(&item);
        return rc;
    }
}

static int put(struct store *s, const struct document *d, struct store_held *held,
               struct sm_error *err)
{
    return store_put_blob(s, d->digest, d->text, strlen(d->text), held, err);
}

/* As pull.c does it: hold everything, then the name. */
static int pull(struct store *s, const struct model *m, const struct model_image *im, int64_t stamp,
                struct sm_error *err)
{
    struct store_held held[2 + 2 * LAYERS];
    struct catalog_record record = im->record;
    size_t n = 0;
    int rc = put(s, &im->manifest, &held[n], err);
    n++;
    held[n] = (struct store_held)STORE_HELD_NONE;
    rc = rc ? rc : put(s, &im->config, &held[n++], err);
    for (unsigned k = 0; k < LAYERS; k++) {
        held[n] = held[n + 1] = (struct store_held)STORE_HELD_NONE;
        rc = rc ? rc : put(s, &m->blobs[im->layers[k]], &held[n], err);
        rc = rc ? rc : hold_layer(s, m->diff_ids[im->layers[k]], &held[n + 1], err);
        n += 2;
    }
    record.added_s = stamp;
    rc = rc ? rc : catalog_put(s, &record, err);
    for (size_t i = 0; i < n; i++) {
        store_release(&held[i]);
    }
    return rc;
}

/* Is all of it there? */
static int look(struct store *s, const struct catalog_record *record)
{
    struct reach_set set = {0};
    struct sm_error err = {0};
    int rc = reach_set_image(&set, s, record, &err);
    for (int k = 0; k < STORE_KINDS; k++) {
        for (size_t i = 0; i < set.kinds[k].n && !rc; i++) {
            struct store_held held;
            rc = store_hold(s, (enum store_kind)k, set.kinds[k].digests[i], &held, &err);
            store_release(&held);
        }
    }
    reach_set_fini(&set);
    return rc;
}

/* 0: as the model says. */
static int check(struct store *s, const struct model_image *im, struct sm_error *err)
{
    struct catalog_record before, after;
    int rc = catalog_get(s, im->record.name, &before, err);
    if (rc == SM_ENOTFOUND || (rc == SM_OK && look(s, &before) == SM_OK)) {
        return SM_OK;
    }
    if (rc) {
        return rc;
    }
    rc = catalog_get(s, im->record.name, &after, err);
    return rc == SM_ENOTFOUND || (rc == SM_OK && after.added_s != before.added_s)
               ? SM_OK
               : err_set(err, SM_ECORRUPT, "a part of the image is not there");
}

static struct store *open_store(const struct model *m)
{
    struct store *s;
    char path[96];
    snprintf(path, sizeof path, "%s/s", m->dir);
    return store_open(path, &s, NULL) == SM_OK ? s : NULL;
}

static int work(const struct model *m, unsigned who, unsigned ops)
{
    struct store *s = open_store(m);
    struct sm_error err = {0};
    struct gc_report report;
    unsigned seed = who * 7919 + 17;
    int rc = s ? SM_OK : SM_EIO;
    for (unsigned i = 0; i < ops && !rc; i++) {
        const struct model_image *im = &m->images[(unsigned)rand_r(&seed) % IMAGES];
        unsigned dice = (unsigned)rand_r(&seed) % 100;
        if (dice < 40) {
            rc = pull(s, m, im, (int64_t)who << 32 | i, &err);
        } else if (dice < 65) {
            rc = check(s, im, &err);
        } else if (dice < 90) {
            rc = gc_remove_image(s, im->record.name, &report, &err);
            rc = rc == SM_ENOTFOUND ? SM_OK : rc;
        } else {
            rc = gc_collect(s, &report, &err);
        }
        if (rc) {
            print_error("process %u, operation %u (%u): %s\n", who, i, dice, err.text);
        }
    }
    store_close(s);
    return rc;
}

static void everybody_at_once(void **state)
{
    struct model *m = *state;
    const char *text = getenv("SM_MODEL_OPS");
    unsigned ops = text ? (unsigned)strtoul(text, NULL, 10) : 4000;
    pid_t pids[PROCESSES];
    for (unsigned i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            _exit(-work(m, i, ops / PROCESSES));
        }
    }
    for (unsigned i = 0; i < PROCESSES; i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    /* Quiet now: with all names gone, everything goes. */
    struct store *s = open_store(m);
    struct gc_report report;
    assert_non_null(s);
    for (unsigned i = 0; i < IMAGES; i++) {
        assert_int_equal(check(s, &m->images[i], NULL), SM_OK);
        gc_remove_image(s, m->images[i].record.name, &report, NULL);
    }
    assert_int_equal(gc_collect(s, &report, NULL), SM_OK);
    assert_int_equal(gc_collect(s, &report, NULL), SM_OK);
    assert_int_equal(report.blobs + report.layers + report.held, 0);
    struct store_held held;
    for (unsigned i = 0; i < UNIVERSE; i++) {
        assert_int_equal(store_hold(s, STORE_BLOB, m->blobs[i].digest, &held, NULL), SM_ENOTFOUND);
        assert_int_equal(store_hold(s, STORE_LAYER, m->diff_ids[i], &held, NULL), SM_ENOTFOUND);
    }
    store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(everybody_at_once, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
