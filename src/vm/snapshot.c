// SPDX-License-Identifier: Apache-2.0
/*
 * The folder of a snapshot. Saving goes RAM and disks, manifest (which has their digests), state
 * (which has the manifest's): each file vouches for the ones before it.
 */
#include "vm/snapshot.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "cpu/model.h"
#include "vm/ram.h"

static const char *const disk_names[] = {"disk0",  "disk1",  "disk2",  "disk3", "disk4",  "disk5",
                                         "disk6",  "disk7",  "disk8",  "disk9", "disk10", "disk11",
                                         "disk12", "disk13", "disk14", "disk15"};
_Static_assert(sizeof disk_names / sizeof disk_names[0] == VM_MAX_VOLUMES, "each has a name");
const char *const snapshot_names[] = {
    "ram",    "base",   "state",  "manifest.json", "disk0",  "disk1",  "disk2",
    "disk3",  "disk4",  "disk5",  "disk6",         "disk7",  "disk8",  "disk9",
    "disk10", "disk11", "disk12", "disk13",        "disk14", "disk15", NULL};

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

static void close_files(const int *files, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (files[i] >= 0)
            close(files[i]);
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

static int capture(const struct snapshot_source *from, const struct snapshot *s, int ram_fd,
                   struct sm_error *err)
{
    int disks[VM_MAX_VOLUMES];
    for (unsigned i = 0; i < s->n_disks; i++)
        disks[i] = s->disks[i].fd;
    const struct vm_files files = {.ram = ram_fd, .disks = disks, .n_disks = s->n_disks};
    return from->capture(from->opaque, &files, err);
}

/* The digest takes longer than all else, and waits until the VM goes on. */
static int write_whole(const struct snapshot_source *from, const char *dir, struct snapshot *s,
                       struct sm_error *err)
{
    int fd;
    int rc = create(dir, "ram", &fd, err);
    if (rc)
        return rc;
    rc = capture(from, s, fd, err);
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
    rc = capture(from, s, delta, err);
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
    rc = capture(from, s, fd, err);
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

/* ---- disks ---- */

static int check_disk(const struct snapshot_disk *d, unsigned i, int code, struct sm_error *err)
{
    struct stat st;
    if (fstat(d->fd, &st) != 0)
        return err_sys(err, "cannot look at %s", disk_names[i]);
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != d->bytes)
        return err_set(err, code, "%s is truncated, or another machine's", disk_names[i]);
    return 0;
}

/* What capture has written. */
static int finish_disk(struct snapshot_disk *d, unsigned i, int rc, const char *dir,
                       struct sm_error *err)
{
    rc = rc ? rc : check_disk(d, i, SM_EIO, err);
    rc = rc ? rc : pages_digest(d->fd, d->bytes, disk_names[i], d->digest, err);
    rc = finish(d->fd, rc, dir, disk_names[i], err);
    d->fd = -1;
    return rc;
}

/* The files are there before the VM stands still. */
static int write_memory(const struct snapshot_source *from, const char *dir, struct snapshot *s,
                        struct sm_error *err)
{
    unsigned made = 0;
    int rc = 0;
    for (; made < s->n_disks && !rc; made += rc == 0)
        rc = create(dir, disk_names[made], &s->disks[made].fd, err);
    rc = rc ? rc : write_ram(from, dir, s, err);
    for (unsigned i = 0; i < made; i++)
        rc = finish_disk(&s->disks[i], i, rc, dir, err);
    return rc;
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
    for (unsigned i = 0; s && i < VM_MAX_VOLUMES; i++)
        s->disks[i].fd = -1;
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

int snapshot_describe_disks(struct snapshot *s, const struct vm_config *config,
                            struct sm_error *err)
{
    struct stat st;
    for (unsigned i = 0; i < config->n_volumes; i++) {
        if (fstat(config->volumes[i].fd, &st) != 0)
            return err_sys(err, "volume %s cannot be used", config->volumes[i].name);
        s->disks[i].bytes = (uint64_t)st.st_size;
        s->disks[i].read_only = config->volumes[i].read_only;
        strcpy(s->disks[i].digest, SNAPSHOT_UNHASHED);
    }
    s->n_disks = config->n_volumes;
    s->n_volumes = 0;
    return 0;
}

int snapshot_save(const struct snapshot *machine, const struct snapshot_source *from,
                  const char *dir, struct sm_error *err)
{
    struct snapshot s = *machine; /* borrows all of it; without a base */
    char *manifest = NULL;
    int rc = write_memory(from, dir, &s, err);
    rc = rc ? rc : snapshot_manifest_build(&s, &manifest, err);
    if (!rc) {
        hash_bytes_raw(manifest, strlen(manifest), s.digest);
        rc = write_state(from, dir, s.digest, err);
    }
    rc = rc ? rc : write_manifest(dir, manifest, err);
    free(manifest);
    return rc;
}

/* The processes of VMs get these, and none may change what others start from. */
static int make_read_only(int *files, unsigned n, struct sm_error *err)
{
    int rc = 0;
    for (unsigned i = 0; i < n && !rc; i++) {
        char *path = io_format("/proc/self/fd/%d", files[i]);
        int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        rc = !path    ? err_set(err, SM_ENOMEM, "out of memory")
             : fd < 0 ? err_sys(err, "cannot open the machine's files for reading only")
                      : 0;
        free(path);
        if (!rc) {
            close(files[i]);
            files[i] = fd;
        }
    }
    return rc;
}

int snapshot_capture(const struct snapshot *machine, const struct snapshot_source *from,
                     const int *files, unsigned n, struct snapshot **out, struct sm_error *err)
{
    struct snapshot s = *machine; /* borrows all of it */
    char *manifest = NULL;
    int all[SNAPSHOT_FILES_MAX] = {files[0], files[1]}, rc = 0;
    unsigned n_all = 2;
    *out = NULL;
    strcpy(s.ram_digest, SNAPSHOT_UNHASHED);
    if (from->base_fd >= 0) {
        strcpy(s.base_digest, from->base_digest);
        all[n_all] = fcntl(from->base_fd, F_DUPFD_CLOEXEC, 0);
        rc = all[n_all++] < 0 ? err_sys(err, "cannot keep the memory file open") : 0;
    }
    for (unsigned i = 2; i < n; i++)
        s.disks[i - 2].fd = all[n_all++] = files[i];
    rc = rc ? rc : capture(from, &s, files[1], err);
    rc = rc ? rc : snapshot_manifest_build(&s, &manifest, err);
    if (!rc) {
        hash_bytes_raw(manifest, strlen(manifest), s.digest);
        rc = from->state(from->opaque, files[0], s.digest, err);
    }
    rc = rc ? rc : make_read_only(all, n_all, err);
    if (rc)
        close_files(all, n_all);
    else
        rc = snapshot_take(manifest, strlen(manifest), all, n_all, out, err);
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

static int check_all(const struct snapshot *s, struct sm_error *err)
{
    char digest[DIGEST_STR_SIZE];
    int rc = check_ram(s, err);
    for (unsigned i = 0; i < s->n_disks && !rc; i++) {
        const struct snapshot_disk *d = &s->disks[i];
        rc = pages_digest(d->fd, d->bytes, disk_names[i], digest, err);
        rc = check_digest(rc, digest, d->digest, disk_names[i], err);
    }
    return rc;
}

/* Take the n files of what the manifest was read into, and check them. */
static int take_files(struct snapshot *s, const int *files, unsigned n, struct sm_error *err)
{
    unsigned has_base = s->base_digest[0] != 0;
    if (n != 2 + has_base + s->n_disks) {
        close_files(files, n);
        return err_set(err, SM_ECORRUPT, "the snapshot's base or a disk is missing, or not its");
    }
    for (unsigned i = 0; i < s->n_disks; i++)
        s->disks[i].fd = files[2 + has_base + i];
    int base = has_base ? files[2] : -1;
    int rc = snapshot_read(s, files[0], files[1], base, err);
    for (unsigned i = 0; i < s->n_disks && !rc; i++)
        rc = check_disk(&s->disks[i], i, SM_ECORRUPT, err);
    struct state_file *file = malloc(sizeof *file);
    struct delta *delta = malloc(sizeof *delta);
    if (!rc && (!file || !delta))
        rc = err_set(err, SM_ENOMEM, "out of memory");
    rc = rc ? rc : state_open(file, s->state.data, s->state.len, s->digest, err);
    if (!rc && base >= 0)
        rc = delta_read(delta, files[1], s->memory_bytes, err);
    free(delta);
    free(file);
    return rc;
}

static int open_files(const char *dir, bool verify, struct snapshot *s, struct sm_error *err)
{
    const char *names[SNAPSHOT_FILES_MAX] = {"state", "ram"};
    int files[SNAPSHOT_FILES_MAX];
    unsigned wanted = 2, n = 0;
    int rc = open_manifest(dir, s, err);
    if (!rc && s->base_digest[0])
        names[wanted++] = "base";
    for (unsigned i = 0; !rc && i < s->n_disks; i++)
        names[wanted++] = disk_names[i];
    while (!rc && n < wanted) {
        rc = open_file(dir, names[n], &files[n], err);
        n += rc == 0;
    }
    if (rc) {
        close_files(files, n);
        return rc;
    }
    rc = take_files(s, files, n, err);
    return rc || !verify ? rc : check_all(s, err);
}

int snapshot_open(const char *dir, bool verify, struct snapshot **out, struct sm_error *err)
{
    struct snapshot *s = new_snapshot();
    *out = NULL;
    if (!s)
        return err_set(err, SM_ENOMEM, "out of memory");
    int rc = open_files(dir, verify, s, err);
    if (rc) {
        snapshot_free(s);
        return err_wrap(err, rc, "snapshot %.200s", dir);
    }
    *out = s;
    return 0;
}

int snapshot_take(const void *manifest, size_t len, const int *files, unsigned n,
                  struct snapshot **out, struct sm_error *err)
{
    struct snapshot *s = *out = new_snapshot();
    int rc = 0;
    if (!s || buf_append(&s->manifest, manifest, len) != 0)
        rc = err_set(err, SM_ENOMEM, "out of memory");
    rc = rc ? rc : read_manifest(s, err);
    if (rc)
        close_files(files, n);
    else
        rc = take_files(s, files, n, err);
    if (rc) {
        snapshot_free(s);
        *out = NULL;
    }
    return rc;
}

unsigned snapshot_files(const struct snapshot *s, int files[SNAPSHOT_FILES_MAX])
{
    unsigned n = 0;
    files[n++] = s->state_fd;
    files[n++] = s->ram_fd;
    if (s->base_fd >= 0)
        files[n++] = s->base_fd;
    for (unsigned i = 0; i < s->n_disks; i++)
        files[n++] = s->disks[i].fd;
    return n;
}

void snapshot_free(struct snapshot *s)
{
    if (!s)
        return;
    const int files[] = {s->state_fd, s->ram_fd, s->base_fd};
    close_files(files, 3);
    for (unsigned i = 0; i < s->n_disks; i++)
        close_files(&s->disks[i].fd, 1);
    free(s->layer_ids);
    json_decref(s->document);
    buf_fini(&s->manifest);
    buf_fini(&s->state);
    free(s);
}
