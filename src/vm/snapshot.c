// SPDX-License-Identifier: Apache-2.0
/*
 * The folder of a snapshot. Saving goes RAM, manifest (which has RAM's digest), state (which has
 * the manifest's): each file vouches for the one before it.
 */
#include "vm/snapshot.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "cpu/model.h"
#include "vm/ram.h"

const char *const snapshot_names[] = {"ram", "base", "state", "manifest.json", NULL};

/* ---- saving ---- */

static int create(const char *dir, const char *name, int *fd, struct sm_error *err)
{
    char *path = io_format("%s/%s", dir, name);
    *fd = path ? open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
    int rc = !path     ? err_set(err, SM_ENOMEM, "out of memory")
             : *fd < 0 ? err_sys(err, "cannot create %s", path)
                       : 0;
    free(path);
    return rc;
}

static int open_file(const char *dir, const char *name, int *fd, struct sm_error *err)
{
    char *path = io_format("%s/%s", dir, name);
    *fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    int rc = !path     ? err_set(err, SM_ENOMEM, "out of memory")
             : *fd < 0 ? err_sys(err, "cannot open %s", path)
                       : 0;
    free(path);
    return rc;
}

static void close_files(int state, int ram, int base)
{
    if (state >= 0)
        close(state);
    if (ram >= 0)
        close(ram);
    if (base >= 0)
        close(base);
}

/* Make a file durable that was written with this result, and close it. */
static int finish(int fd, int rc, const char *dir, const char *name, struct sm_error *err)
{
    if (!rc && fsync(fd) != 0)
        rc = err_sys(err, "cannot write %s/%s to disk", dir, name);
    if (close(fd) != 0 && !rc)
        rc = err_sys(err, "cannot write %s/%s", dir, name);
    return rc;
}

/* One without a name, gone when closed. */
static int create_unnamed(const char *dir, int *fd, struct sm_error *err)
{
    char *path = io_format("%s/delta", dir);
    int rc = path ? create(dir, "delta", fd, err) : err_set(err, SM_ENOMEM, "out of memory");
    if (!rc)
        unlink(path);
    free(path);
    return rc;
}

/* The digest takes longer than all else, and waits until the VM goes on. */
static int write_whole(const struct snapshot_source *from, const char *dir, struct snapshot *s,
                       struct sm_error *err)
{
    int fd;
    int rc = create(dir, "ram", &fd, err);
    if (rc)
        return rc;
    rc = from->capture(from->opaque, fd, err);
    rc = rc ? rc : ram_digest(fd, s->memory_bytes, s->ram_digest, err);
    return finish(fd, rc, dir, "ram", err);
}

/* The base is on another file system, or has no name any more: take what differs, then put both
 * together. */
static int write_merged(const struct snapshot_source *from, const char *dir, struct snapshot *s,
                        struct sm_error *err)
{
    int delta, fd;
    int rc = create_unnamed(dir, &delta, err);
    if (rc)
        return rc;
    rc = from->capture(from->opaque, delta, err);
    rc = rc ? rc : create(dir, "ram", &fd, err);
    if (!rc) {
        rc = ram_merge(from->base_fd, delta, s->memory_bytes, fd, err);
        rc = rc ? rc : ram_digest(fd, s->memory_bytes, s->ram_digest, err);
        rc = finish(fd, rc, dir, "ram", err);
    }
    close(delta);
    return rc;
}

static int write_delta(const struct snapshot_source *from, const char *dir, struct snapshot *s,
                       struct sm_error *err)
{
    int fd;
    int rc = create(dir, "ram", &fd, err);
    if (rc)
        return rc;
    strcpy(s->base_digest, from->base_digest);
    rc = from->capture(from->opaque, fd, err);
    if (!rc && strcmp(s->base_digest, SNAPSHOT_UNHASHED) == 0)
        rc = ram_digest(from->base_fd, s->memory_bytes, s->base_digest, err);
    if (!rc && fsync(from->base_fd) != 0)
        rc = err_sys(err, "cannot write %s/base to disk", dir);
    if (!rc && hash_file(fd, UINT64_MAX, NULL, NULL, s->ram_digest) < 0)
        rc = err_sys(err, "cannot read the guest's memory");
    return finish(fd, rc, dir, "ram", err);
}

static bool link_base(int fd, const char *dir)
{
    char *from = io_format("/proc/self/fd/%d", fd), *to = io_format("%s/base", dir);
    bool linked = from && to && linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW) == 0;
    free(from);
    free(to);
    return linked;
}

static int write_ram(const struct snapshot_source *from, const char *dir, struct snapshot *s,
                     struct sm_error *err)
{
    if (from->base_fd < 0)
        return write_whole(from, dir, s, err);
    return link_base(from->base_fd, dir) ? write_delta(from, dir, s, err)
                                         : write_merged(from, dir, s, err);
}

static int write_state(const struct snapshot_source *from, const char *dir, const uint8_t *digest,
                       struct sm_error *err)
{
    int fd;
    int rc = create(dir, "state", &fd, err);
    return rc ? rc : finish(fd, from->state(from->opaque, fd, digest, err), dir, "state", err);
}

static int write_manifest(const char *dir, const char *text, struct sm_error *err)
{
    int fd;
    int rc = create(dir, "manifest.json", &fd, err);
    if (rc)
        return rc;
    if (io_write_full(fd, text, strlen(text)) != 0)
        rc = err_sys(err, "cannot write %s/manifest.json", dir);
    return finish(fd, rc, dir, "manifest.json", err);
}

static struct snapshot *new_snapshot(void)
{
    struct snapshot *s = calloc(1, sizeof *s);
    if (s)
        s->ram_fd = s->state_fd = s->base_fd = -1;
    return s;
}

int snapshot_describe(const struct vm_config *config, const char *const *layer_ids,
                      json_t *document, struct snapshot **out, struct sm_error *err)
{
    struct snapshot *s = *out = new_snapshot();
    if (!s || !document || !(s->layer_ids = calloc(config->n_layers + 1u, sizeof *s->layer_ids))) {
        json_decref(document);
        snapshot_free(s);
        *out = NULL;
        return err_set(err, SM_ENOMEM, "out of memory");
    }
    s->document = document;
    s->memory_bytes = config->memory_bytes;
    s->vcpus = config->vcpus;
    snprintf(s->cpu_model, sizeof s->cpu_model, "%s", config->cpu);
    snprintf(s->cpu_vendor, sizeof s->cpu_vendor, "%s", model_host_vendor());
    s->n_layers = config->n_layers;
    s->n_volumes = config->n_volumes;
    for (unsigned i = 0; i < config->n_layers; i++)
        snprintf(s->layer_ids[i], sizeof s->layer_ids[i], "%s", layer_ids[i]);
    return 0;
}

int snapshot_save(const struct snapshot *machine, const struct snapshot_source *from,
                  const char *dir, struct sm_error *err)
{
    struct snapshot s = *machine; /* borrows all of it; without a base */
    char *manifest = NULL;
    int rc = write_ram(from, dir, &s, err);
    rc = rc ? rc : snapshot_manifest_build(&s, &manifest, err);
    if (!rc) {
        hash_bytes_raw(manifest, strlen(manifest), s.digest);
        rc = write_state(from, dir, s.digest, err);
    }
    rc = rc ? rc : write_manifest(dir, manifest, err);
    free(manifest);
    return rc;
}

int snapshot_capture(const struct snapshot *machine, const struct snapshot_source *from, int ram_fd,
                     int state_fd, struct snapshot **out, struct sm_error *err)
{
    struct snapshot s = *machine; /* borrows all of it */
    char *manifest = NULL;
    int base = -1, rc = 0;
    *out = NULL;
    strcpy(s.ram_digest, SNAPSHOT_UNHASHED);
    if (from->base_fd >= 0) {
        strcpy(s.base_digest, from->base_digest);
        base = fcntl(from->base_fd, F_DUPFD_CLOEXEC, 0);
        rc = base < 0 ? err_sys(err, "cannot keep the memory file open") : 0;
    }
    rc = rc ? rc : from->capture(from->opaque, ram_fd, err);
    rc = rc ? rc : snapshot_manifest_build(&s, &manifest, err);
    if (!rc) {
        hash_bytes_raw(manifest, strlen(manifest), s.digest);
        rc = from->state(from->opaque, state_fd, s.digest, err);
    }
    if (rc)
        close_files(state_fd, ram_fd, base);
    else
        rc = snapshot_take(manifest, strlen(manifest), state_fd, ram_fd, base, out, err);
    free(manifest);
    return rc;
}

/* ---- opening ---- */

/* What s->manifest says. */
static int read_manifest(struct snapshot *s, struct sm_error *err)
{
    hash_bytes_raw(s->manifest.data, s->manifest.len, s->digest);
    return snapshot_manifest_parse(s->manifest.data, s->manifest.len, s, err);
}

static int open_manifest(const char *dir, struct snapshot *s, struct sm_error *err)
{
    char *path = io_format("%s/manifest.json", dir);
    int rc = path ? io_slurp(path, SNAPSHOT_MANIFEST_MAX, &s->manifest, err)
                  : err_set(err, SM_ENOMEM, "out of memory");
    free(path);
    if (rc == SM_ENOTFOUND)
        rc = err_set(err, rc, "there is none");
    return rc ? rc : read_manifest(s, err);
}

/* Compare a digest of memory with the one in the manifest. */
static int check_digest(int rc, const char *found, const char *wanted, const char *what,
                        struct sm_error *err)
{
    return rc || strcmp(found, wanted) == 0
               ? rc
               : err_set(err, SM_ECORRUPT, "%s is damaged (checksum)", what);
}

static int check_ram(const struct snapshot *s, struct sm_error *err)
{
    char digest[DIGEST_STR_SIZE];
    if (s->base_fd < 0) {
        int rc = ram_digest(s->ram_fd, s->memory_bytes, digest, err);
        return check_digest(rc, digest, s->ram_digest, "the memory file", err);
    }
    int rc = 0;
    if (hash_file(s->ram_fd, UINT64_MAX, NULL, NULL, digest) < 0)
        rc = err_sys(err, "cannot read the memory file");
    rc = check_digest(rc, digest, s->ram_digest, "the memory file", err);
    rc = rc ? rc : ram_digest(s->base_fd, s->memory_bytes, digest, err);
    return check_digest(rc, digest, s->base_digest, "the base", err);
}

/* Take the files of what the manifest was read into, and check them. */
static int take_files(struct snapshot *s, int state, int ram, int base, struct sm_error *err)
{
    int rc = snapshot_read(s, state, ram, base, err);
    struct state_file *file = malloc(sizeof *file);
    struct delta *delta = malloc(sizeof *delta);
    if (!rc && (!file || !delta))
        rc = err_set(err, SM_ENOMEM, "out of memory");
    rc = rc ? rc : state_open(file, s->state.data, s->state.len, s->digest, err);
    if (!rc && base >= 0)
        rc = delta_read(delta, ram, s->memory_bytes, err);
    free(delta);
    free(file);
    return rc;
}

static int open_files(const char *dir, bool verify_ram, struct snapshot *s, struct sm_error *err)
{
    int state = -1, ram = -1, base = -1;
    int rc = open_manifest(dir, s, err);
    rc = rc ? rc : open_file(dir, "state", &state, err);
    rc = rc ? rc : open_file(dir, "ram", &ram, err);
    if (!rc && s->base_digest[0])
        rc = open_file(dir, "base", &base, err);
    if (rc) {
        close_files(state, ram, base);
        return rc;
    }
    rc = take_files(s, state, ram, base, err);
    return rc || !verify_ram ? rc : check_ram(s, err);
}

int snapshot_open(const char *dir, bool verify_ram, struct snapshot **out, struct sm_error *err)
{
    struct snapshot *s = new_snapshot();
    *out = NULL;
    if (!s)
        return err_set(err, SM_ENOMEM, "out of memory");
    int rc = open_files(dir, verify_ram, s, err);
    if (rc) {
        snapshot_free(s);
        return err_wrap(err, rc, "snapshot %.200s", dir);
    }
    *out = s;
    return 0;
}

int snapshot_take(const void *manifest, size_t len, int state_fd, int ram_fd, int base_fd,
                  struct snapshot **out, struct sm_error *err)
{
    struct snapshot *s = *out = new_snapshot();
    int rc = 0;
    if (!s || buf_append(&s->manifest, manifest, len) != 0)
        rc = err_set(err, SM_ENOMEM, "out of memory");
    rc = rc ? rc : read_manifest(s, err);
    if (!rc && (s->base_digest[0] != 0) != (base_fd >= 0))
        rc = err_set(err, SM_ECORRUPT, "the snapshot's base is missing, or it has none");
    if (rc)
        close_files(state_fd, ram_fd, base_fd);
    else
        rc = take_files(s, state_fd, ram_fd, base_fd, err);
    if (rc) {
        snapshot_free(s);
        *out = NULL;
    }
    return rc;
}

void snapshot_free(struct snapshot *s)
{
    if (!s)
        return;
    close_files(s->state_fd, s->ram_fd, s->base_fd);
    free(s->layer_ids);
    json_decref(s->document);
    buf_fini(&s->manifest);
    buf_fini(&s->state);
    free(s);
}
