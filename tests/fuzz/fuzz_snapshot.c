// SPDX-License-Identifier: Apache-2.0
/*
 * Restoring from any files. The first byte says what the fuzzer owns:
 *
 *   0  the manifest: a folder with it, and with a state and memory that fit
 *   1  the state file, as it is: its frame and checksums
 *   2  changes to a state that a real VM saved, with checksums that are right; what is restored
 *      runs for a moment
 *
 * (as ASCII digits, of which two bits count). A change is: section, kind, offset (2 bytes), length,
 * bytes. The seeds are made of a real VM's snapshot when the fuzzer starts.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/le.h"
#include "cpu/model.h"
#include "fuzz_device.h"
#include "../vm/tiny_vm.h"

#define RUN_MS 1
#define RAM_MAX (1ull << 30)

int LLVMFuzzerInitialize(int *argc, char ***argv);

static struct tiny_vm tiny;
static char folder[40], seeds[40];

static void path_in(char path[80], const char *dir, const char *name)
{
    snprintf(path, 80, "%s/%s", dir, name);
}

/* A file of a first byte, unless that is 0, and these. */
static void write_file(const char *dir, const char *name, char mode, const void *data, size_t len)
{
    char path[80];
    path_in(path, dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || (mode && write(fd, &mode, 1) != 1) || write(fd, data, len) != (ssize_t)len)
        abort();
    close(fd);
}

static void write_manifest(const struct snapshot *s, const char *name)
{
    char *text;
    if (snapshot_manifest_build(s, &text, NULL) != 0)
        abort();
    write_file(seeds, name, '0', text, strlen(text));
    free(text);
}

static void make_seeds(void)
{
    struct snapshot s = {.memory_bytes = TINY_MEMORY,
                         .vcpus = 1,
                         .cpu_model = "v2",
                         .n_layers = 1,
                         .n_volumes = 1,
                         .document = json_object()};
    char ids[1][DIGEST_STR_SIZE];
    uint8_t changes[TINY_SECTIONS_MAX * 8];
    struct tiny_section sections[TINY_SECTIONS_MAX];
    unsigned n = tiny_state_sections(&tiny.state, sections);
    hash_bytes("layer", 5, ids[0]);
    strcpy(s.ram_digest, ids[0]);
    strcpy(s.cpu_vendor, model_host_vendor());
    s.layer_ids = ids;
    write_manifest(&s, "manifest");
    s.n_volumes = 0;
    s.n_disks = 2;
    for (unsigned i = 0; i < s.n_disks; i++) {
        s.disks[i] = (struct snapshot_disk){.bytes = 64u << 10, .read_only = i == 1};
        strcpy(s.disks[i].digest, ids[0]);
    }
    write_manifest(&s, "disks");
    write_file(seeds, "frame", '1', tiny.state.data, tiny.state.len);
    for (unsigned i = 0; i < n; i++)
        memcpy(changes + i * 8, (uint8_t[]){(uint8_t)i, 0, (uint8_t)(i * 16), 0, 3, 1, 2, 3}, 8);
    write_file(seeds, "values", '2', changes, n * 8u);
    json_decref(s.document);
}

static void clean(void)
{
    static const char *const files[][2] = {
        {seeds, "manifest"}, {seeds, "disks"}, {seeds, "frame"}, {seeds, "values"}};
    char path[80];
    for (unsigned i = 0; snapshot_names[i]; i++) {
        path_in(path, folder, snapshot_names[i]);
        unlink(path);
    }
    for (unsigned i = 0; i < sizeof files / sizeof files[0]; i++) {
        path_in(path, files[i][0], files[i][1]);
        unlink(path);
    }
    rmdir(folder);
    rmdir(seeds);
    tiny_vm_close(&tiny);
}

/* Is an input to be run again, and no folder of them? */
static bool names_a_file(int argc, char **argv)
{
    struct stat st;
    for (int i = 1; i < argc; i++)
        if (argv[i][0] != '-' && stat(argv[i], &st) == 0 && S_ISREG(st.st_mode))
            return true;
    return false;
}

/* The seeds are the last folder; a state has more bytes than the fuzzer would try. */
static void add_seeds(int *argc, char ***argv)
{
    static char max_len[] = "-max_len=8192";
    char **more = calloc((size_t)*argc + 3, sizeof *more);
    if (!more)
        abort();
    memcpy(more, *argv, (size_t)*argc * sizeof *more);
    more[*argc] = max_len;
    more[*argc + 1] = seeds;
    *argv = more;
    *argc += 2;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    tiny_vm_open(&tiny);
    strcpy(folder, "/tmp/sm-fuzz-snapshot-XXXXXX");
    strcpy(seeds, "/tmp/sm-fuzz-seeds-XXXXXX");
    if (!mkdtemp(folder) || !mkdtemp(seeds) || atexit(clean) != 0)
        abort();
    make_seeds();
    if (!names_a_file(*argc, *argv))
        add_seeds(argc, argv);
    return 0;
}

/* An error has a code and words, and nothing is left of what it was about. */
static void expect_error(int rc, const struct sm_error *err)
{
    if (rc >= 0 || rc != err->code || err->text[0] == 0)
        abort();
}

/* What a worker would be told to build of it. */
static void build(const struct snapshot *s)
{
    struct vm_config config = tiny_vm_config(&tiny);
    struct sm_error err = {0};
    struct vm *vm;
    config.snapshot = s;
    config.memory_bytes = s->memory_bytes;
    config.vcpus = s->vcpus;
    config.cpu = s->cpu_model;
    int rc = vm_new(&config, &vm, &err);
    if (rc)
        expect_error(rc, &err);
    else
        vm_free(vm);
}

static void open_folder(bool verify)
{
    struct sm_error err = {0};
    struct snapshot *s;
    int rc = snapshot_open(folder, verify, &s, &err);
    if (rc) {
        if (s)
            abort();
        expect_error(rc, &err);
        return;
    }
    if (s->vcpus < 1 || s->vcpus > ENGINE_MAX_VCPUS || s->n_layers > VM_MAX_LAYERS ||
        s->n_volumes > VM_MAX_VOLUMES || s->n_disks > VM_MAX_VOLUMES ||
        (s->n_disks && s->n_volumes) || !digest_valid(s->ram_digest) ||
        !json_is_object(s->document))
        abort();
    for (unsigned i = 0; i < s->n_disks; i++)
        if (s->disks[i].bytes == 0 || s->disks[i].bytes % 512 || !digest_valid(s->disks[i].digest))
            abort();
    for (unsigned i = 0; i < s->n_layers; i++)
        if (!digest_valid(s->layer_ids[i]))
            abort();
    build(s);
    snapshot_free(s);
}

static void make_hole(const char *name, uint64_t bytes)
{
    char path[80];
    write_file(folder, name, 0, "", 0);
    path_in(path, folder, name);
    if (truncate(path, (off_t)(bytes <= RAM_MAX ? bytes : RAM_MAX)) != 0)
        abort();
}

/* What the manifest says of memory and disks, so that it is not the size alone that is wrong. */
static void make_files(const uint8_t *data, size_t size)
{
    struct snapshot s = {0};
    bool good = snapshot_manifest_parse(data, size, &s, NULL) == 0;
    make_hole("ram", good && s.memory_bytes <= RAM_MAX ? s.memory_bytes : TINY_MEMORY);
    for (unsigned i = 0; good && i < s.n_disks; i++) {
        char name[16];
        snprintf(name, sizeof name, "disk%u", i);
        make_hole(name, s.disks[i].bytes);
    }
    free(s.layer_ids);
    json_decref(s.document);
}

static void fuzz_manifest(const uint8_t *data, size_t size)
{
    struct buf state = {0};
    if (buf_append(&state, tiny.state.data, tiny.state.len) != 0)
        abort();
    hash_bytes_raw(data, size, state.data + 16);
    write_file(folder, "manifest.json", 0, data, size);
    write_file(folder, "state", 0, state.data, state.len);
    make_files(data, size);
    open_folder(size & 1);
    buf_fini(&state);
}

static void fuzz_frame(const uint8_t *data, size_t size)
{
    struct buf state = {.data = (uint8_t *)data, .len = size};
    struct sm_error err = {0};
    int rc = tiny_vm_restore(&tiny, &state, RUN_MS, &err);
    if (rc)
        expect_error(rc, &err);
}

/* Put bytes into a section, or take its end away, or give it another name or version. */
static void change(struct buf *state, struct fuzz_input *in)
{
    struct tiny_section sections[TINY_SECTIONS_MAX];
    unsigned n = tiny_state_sections(state, sections);
    if (n == 0)
        return;
    const struct tiny_section *s = &sections[fuzz_u8(in) % n];
    uint8_t kind = fuzz_u8(in);
    size_t offset = fuzz_u16(in), len = fuzz_u8(in);
    uint8_t *header = state->data + s->at, *bytes = header + STATE_SECTION_HEADER_SIZE;
    if (kind >= 250) {
        header[offset % (STATE_NAME_SIZE + 4)] = (uint8_t)len;
        return;
    }
    if (kind >= 245) { /* shorter: what is cut off is no longer there */
        size_t cut = s->len ? offset % s->len : 0;
        memmove(bytes + s->len - cut, bytes + s->len,
                state->len - (size_t)(bytes + s->len - state->data));
        state->len -= cut;
        le32_put(header + STATE_NAME_SIZE + 4, (uint32_t)(s->len - cut));
        return;
    }
    for (size_t i = 0; i < len && s->len; i++)
        bytes[(offset + i) % s->len] = fuzz_u8(in);
}

static void fuzz_values(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    struct buf state = {0};
    struct sm_error err = {0};
    if (buf_append(&state, tiny.state.data, tiny.state.len) != 0)
        abort();
    while (in.left)
        change(&state, &in);
    tiny_state_seal(&state);
    int rc = tiny_vm_restore(&tiny, &state, RUN_MS, &err);
    if (rc)
        expect_error(rc, &err);
    buf_fini(&state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    switch (data[0] & 3) {
    case 0:
        fuzz_manifest(data + 1, size - 1);
        break;
    case 1:
        fuzz_frame(data + 1, size - 1);
        break;
    default:
        fuzz_values(data + 1, size - 1);
    }
    return 0;
}
