/* SPDX-License-Identifier: Apache-2.0 */
/* blob -> layer_stream (decode, hash) -> tarball (members) -> layer_entry -> tree and EROFS image.
 */
#include "image/layer.h"

#include <stdlib.h>
#include <string.h>

#include "image/layer_parts.h"

enum layer_codec layer_codec_of(const uint8_t *head, size_t len)
{
    if (len >= 2 && memcmp(head, "\x1f\x8b", 2) == 0) {
        return LAYER_TAR_GZIP;
    }
    return len >= 4 && memcmp(head, "\x28\xb5\x2f\xfd", 4) == 0 ? LAYER_TAR_ZSTD : LAYER_TAR;
}

static uint64_t or_default(uint64_t v, uint64_t def)
{
    return v ? v : def;
}

static struct layer_limits with_defaults(const struct layer_limits *given)
{
    struct layer_limits l = {0};
    if (given) {
        l = *given;
    }
    l.max_tar_bytes = or_default(l.max_tar_bytes, UINT64_C(64) << 30);
    l.max_image_bytes = or_default(l.max_image_bytes, UINT64_C(256) << 30);
    l.max_file_bytes = or_default(l.max_file_bytes, UINT64_C(1) << 40);
    l.max_entries = or_default(l.max_entries, UINT64_C(1) << 20);
    l.max_memory = or_default(l.max_memory, UINT64_C(192) << 20);
    l.max_ratio = or_default(l.max_ratio, 1100);
    return l;
}

static int convert_entries(struct layer_build *b, uint64_t max_entries, struct sm_error *err)
{
    const struct tarball_entry *e;
    for (uint64_t count = 0;; count++) {
        int rc = tarball_next(b->tar, &e, err);
        if (rc || !e) {
            return rc;
        }
        if (count == max_entries) {
            return err_set(err, SM_EUNSUPPORTED, "layer has more than the limit of %llu entries",
                           (unsigned long long)max_entries);
        }
        rc = layer_entry(b, e, err);
        if (rc) {
            return rc;
        }
    }
}

/* The volume's id: from the diff id, so that equal layers are equal images. */
static void make_uuid(const char *diff_id, uint8_t uuid[16])
{
    const char *hex = diff_id + strlen("sha256:");
    for (int i = 0; i < 16; i++) {
        char byte[3] = {hex[2 * i], hex[2 * i + 1], 0};
        uuid[i] = (uint8_t)strtoul(byte, NULL, 16);
    }
    uuid[6] = (uuid[6] & 0x0f) | 0x80; /* RFC 9562: version 8, custom */
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
}

int layer_to_erofs(const struct layer_input *in, enum layer_codec codec, int out_fd,
                   const struct layer_limits *limits, char diff_id[DIGEST_STR_SIZE],
                   struct sm_error *err)
{
    struct layer_limits l = with_defaults(limits);
    struct layer_stream *stream = NULL;
    struct layer_build b = {.max_file_bytes = l.max_file_bytes};
    uint8_t uuid[16];
    int rc = layer_stream_new(in, codec, l.max_tar_bytes, l.max_ratio, &stream, err);
    rc = rc ? rc : erofs_new(out_fd, l.max_image_bytes, &b.image, err);
    if (!rc) {
        b.tar = tarball_new((struct tarball_source){
            .next = layer_stream_next, .opaque = stream, .may_lack_end = true});
        b.tree = tree_new(l.max_memory);
        if (!b.tar || !b.tree) {
            rc = err_set(err, SM_ENOMEM, "out of memory for a layer's tree");
        }
    }
    rc = rc ? rc : convert_entries(&b, l.max_entries, err);
    if (!rc) {
        layer_stream_digest(stream, diff_id);
        make_uuid(diff_id, uuid);
        rc = tree_sort(b.tree, err);
    }
    rc = rc ? rc : erofs_finish(b.image, b.tree, uuid, NULL, err);
    erofs_free(b.image);
    tree_free(b.tree);
    tarball_free(b.tar);
    layer_stream_free(stream);
    return rc;
}
