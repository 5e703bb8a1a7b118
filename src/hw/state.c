/* SPDX-License-Identifier: Apache-2.0 */
/* Saving and loading by one walk, and the file of sections around it. */
#include "hw/state.h"

#include <string.h>

#include "base/hash.h"
#include "base/le.h"

#define FORMAT 1u
#define SECTION_MAX (1u << 20)

static const char magic[8] = "SMSTATE";

/* ---- values ---- */

static void failed(struct state *s, int code, const char *what)
{
    if (s->error.code == 0)
        err_set(&s->error, code, "section %s: %s", s->section, what);
}

void state_bytes(struct state *s, void *data, size_t len)
{
    if (!s->loading) {
        if (buf_append(s->out, data, len) != 0)
            failed(s, SM_ENOMEM, "out of memory");
        return;
    }
    if (s->error.code == 0 && len > s->len - s->at)
        failed(s, SM_ECORRUPT, "it is too short");
    if (s->error.code != 0) {
        memset(data, 0, len);
        return;
    }
    memcpy(data, s->data + s->at, len);
    s->at += len;
}

void state_u8(struct state *s, uint8_t *v)
{
    state_bytes(s, v, sizeof *v);
}

/* The host is little-endian (base/le.h). */
void state_u16(struct state *s, uint16_t *v)
{
    state_bytes(s, v, sizeof *v);
}

void state_u32(struct state *s, uint32_t *v)
{
    state_bytes(s, v, sizeof *v);
}

void state_u64(struct state *s, uint64_t *v)
{
    state_bytes(s, v, sizeof *v);
}

void state_bool(struct state *s, bool *v)
{
    uint8_t byte = !s->loading && *v;

    state_u8(s, &byte);
    state_check(s, byte <= 1, "a flag is neither 0 nor 1");
    *v = byte == 1;
}

void state_check(struct state *s, bool ok, const char *what)
{
    if (s->loading && !ok)
        failed(s, SM_ECORRUPT, what);
}

void state_same(struct state *s, uint64_t value, const char *what)
{
    uint64_t v = value;

    state_u64(s, &v);
    if (s->loading && v != value)
        failed(s, SM_EUNSUPPORTED, what);
}

/* ---- files ---- */

int state_begin(struct buf *file, const uint8_t digest[STATE_DIGEST_SIZE], struct sm_error *err)
{
    uint8_t header[STATE_HEADER_SIZE] = {0};

    memcpy(header, magic, sizeof magic);
    le32_put(header + 8, FORMAT);
    memcpy(header + 16, digest, STATE_DIGEST_SIZE);
    return buf_append(file, header, sizeof header) ? err_set(err, SM_ENOMEM, "out of memory") : 0;
}

void state_bind(struct buf *file, const uint8_t digest[STATE_DIGEST_SIZE])
{
    memcpy(file->data + 16, digest, STATE_DIGEST_SIZE);
}

/* Over the section's name, version, length and bytes: all of it but the digest itself. */
static int section_digest(const uint8_t *header, const uint8_t *data, size_t len,
                          uint8_t out[STATE_DIGEST_SIZE])
{
    struct hash *h = hash_new();

    if (h == NULL)
        return -1;
    hash_update(h, header, STATE_NAME_SIZE + 8);
    hash_update(h, data, len);
    hash_final_raw(h, out);
    hash_free(h);
    return 0;
}

int state_save(struct buf *file, const char *name, uint32_t version, state_walk_fn *walk,
               void *object, struct sm_error *err)
{
    uint8_t header[STATE_SECTION_HEADER_SIZE] = {0};
    size_t start = file->len;
    struct state s = {.out = file, .section = name};

    memcpy(header, name, strnlen(name, STATE_NAME_SIZE - 1));
    le32_put(header + STATE_NAME_SIZE, version);
    if (buf_append(file, header, sizeof header) != 0)
        return err_set(err, SM_ENOMEM, "out of memory");
    walk(&s, object);
    if (s.error.code != 0) {
        if (err != NULL)
            *err = s.error;
        return s.error.code;
    }
    uint8_t *at = file->data + start;
    size_t len = file->len - start - sizeof header;
    le32_put(at + STATE_NAME_SIZE + 4, (uint32_t)len);
    if (section_digest(at, at + sizeof header, len, at + STATE_NAME_SIZE + 8) != 0)
        return err_set(err, SM_ENOMEM, "out of memory");
    le32_put(file->data + 12, le32_get(file->data + 12) + 1);
    return 0;
}

static int check_header(const uint8_t *data, size_t len, const uint8_t digest[STATE_DIGEST_SIZE],
                        struct sm_error *err)
{
    if (len < STATE_HEADER_SIZE)
        return err_set(err, SM_ECORRUPT, "the state file is truncated");
    if (memcmp(data, magic, sizeof magic) != 0)
        return err_set(err, SM_ECORRUPT, "the state file has a bad magic number");
    if (le32_get(data + 8) != FORMAT)
        return err_set(err, SM_EUNSUPPORTED,
                       "the state file has format version %u; this version reads %u",
                       le32_get(data + 8), FORMAT);
    if (memcmp(data + 16, digest, STATE_DIGEST_SIZE) != 0)
        return err_set(err, SM_ECORRUPT,
                       "the state file and the manifest do not belong together "
                       "(checksum)");
    if (le32_get(data + 12) > STATE_SECTIONS_MAX)
        return err_set(err, SM_ECORRUPT, "the state file claims %u sections", le32_get(data + 12));
    return 0;
}

/* The section at data[*at]; moves on. */
static int read_section(struct state_section *out, const uint8_t *data, size_t len, size_t *at,
                        struct sm_error *err)
{
    const uint8_t *header = data + *at;
    uint8_t digest[STATE_DIGEST_SIZE];

    if (len - *at < STATE_SECTION_HEADER_SIZE)
        return err_set(err, SM_ECORRUPT, "the state file is truncated");
    *at += STATE_SECTION_HEADER_SIZE;
    memcpy(out->name, header, STATE_NAME_SIZE);
    out->version = le32_get(header + STATE_NAME_SIZE);
    out->len = le32_get(header + STATE_NAME_SIZE + 4);
    out->data = data + *at;
    out->taken = false;
    if (out->len > SECTION_MAX || out->len > len - *at)
        return err_set(err, SM_ECORRUPT, "the state file is truncated");
    *at += out->len;
    if (section_digest(header, out->data, out->len, digest) != 0)
        return err_set(err, SM_ENOMEM, "out of memory");
    if (memcmp(digest, header + STATE_NAME_SIZE + 8, sizeof digest) != 0)
        return err_set(err, SM_ECORRUPT, "the state file is damaged (checksum)");
    if (out->name[STATE_NAME_SIZE - 1] != '\0')
        return err_set(err, SM_ECORRUPT, "the state file has a section without a name");
    return 0;
}

int state_open(struct state_file *out, const uint8_t *data, size_t len,
               const uint8_t digest[STATE_DIGEST_SIZE], struct sm_error *err)
{
    size_t at = STATE_HEADER_SIZE;
    int rc = check_header(data, len, digest, err);

    out->n = 0;
    if (rc != 0)
        return rc;
    for (unsigned n = le32_get(data + 12); out->n < n; out->n++) {
        rc = read_section(&out->sections[out->n], data, len, &at, err);
        if (rc != 0)
            return rc;
    }
    return at == len ? 0 : err_set(err, SM_ECORRUPT, "the state file goes on after its end");
}

int state_load(struct state_file *file, const char *name, uint32_t version, state_walk_fn *walk,
               void *object, struct sm_error *err)
{
    struct state_section *section = NULL;

    for (unsigned i = 0; i < file->n && section == NULL; i++)
        if (!file->sections[i].taken && strcmp(file->sections[i].name, name) == 0)
            section = &file->sections[i];
    if (section == NULL)
        return err_set(err, SM_EUNSUPPORTED, "the snapshot has no device %s", name);
    if (section->version != version)
        return err_set(err, SM_EUNSUPPORTED, "section %s has version %u; this version reads %u",
                       name, section->version, version);
    section->taken = true;

    struct state s = {.loading = true, .data = section->data, .len = section->len, .section = name};
    walk(&s, object);
    state_check(&s, s.at == s.len, "it is too long");
    if (s.error.code != 0 && err != NULL)
        *err = s.error;
    return s.error.code;
}

int state_finish(const struct state_file *file, struct sm_error *err)
{
    for (unsigned i = 0; i < file->n; i++)
        if (!file->sections[i].taken)
            return err_set(err, SM_EUNSUPPORTED, "the snapshot has a device that this VM has not");
    return 0;
}
