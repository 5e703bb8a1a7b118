/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OCI layer blob -> EROFS image, as a stream (OCI image-spec, layer.md). Nothing is unpacked into
 * the host's file system, no privilege is needed, equal layers give equal images.
 *
 * What a layer means here:
 * - names, symbolic links on the way, missing parents: image/tree.h. A later entry of the same name
 * wins; a directory entry on a directory keeps its children. What the tar reader refuses:
 * image/tarball.h.
 * - ".wh.NAME" becomes overlayfs's whiteout (character device 0/0), ".wh..wh..opq" makes its
 * directory opaque (xattr trusted.overlay.opaque=y); both act on lower layers only, whatever the
 * order in the archive. A directory that this layer also whites out, or puts where it had something
 * else, is opaque. Other ".wh..wh.*" names are AUFS's own and skipped with all below them. ".wh.",
 * ".wh..", ".wh..." are errors.
 * - hard links need their target earlier in the same layer, and take its attributes, not their
 * entry's.
 * - xattrs user.*, trusted.*, security.* and system.posix_acl_* are kept; trusted.overlay.* is
 * dropped (a layer does not speak to overlayfs), as are user.* on what Linux allows none on, and
 * other prefixes. Text ACLs (SCHILY.acl.*) are ignored, as every OCI tool does. Too large ones are
 * errors (image/erofs.h).
 * - a device 0/0 in the archive is refused: overlayfs would take it for a whiteout.
 *
 * - a directory that a layer only implies (has entries below it but none for itself) is 0755 root,
 * and marked: xattr trusted.overlay.implied=y, and =b on those above it that have an entry. The
 * guest's agent gives it what the layers below say when it stacks them (guest/implied.h); it also
 * honours the opaque mark of a layer's root, which overlayfs ignores.
 *
 * One limit of layers made one by one, without seeing those below: names through a symbolic link of
 * a lower layer are not redirected; the link is hidden by a directory.
 *
 * Memory: max_memory for names and attributes, 3 MiB of buffers, at most 5 MiB for one entry's
 * headers, and the decompressor's window (gzip 32 KiB; zstd as the frame asks, at most 128 MiB).
 */
#ifndef SM_IMAGE_LAYER_H
#define SM_IMAGE_LAYER_H

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/hash.h"

/* The blob's bytes as stored. read: bytes read, 0 at the end, -1 with errno. */
struct layer_input {
    ssize_t (*read)(void *opaque, void *buf, size_t len);
    void *opaque; /* borrowed */
};

enum layer_codec { LAYER_TAR, LAYER_TAR_GZIP, LAYER_TAR_ZSTD };

#define LAYER_HEAD 4 /* bytes that tell the codecs apart */
/* What begins with these bytes (RFC 1952, RFC 8878); everything else is taken for a plain tar. */
enum layer_codec layer_codec_of(const uint8_t *head, size_t len);

/* Zero means the default. A passed limit is SM_EUNSUPPORTED and the text says which. */
struct layer_limits {
    uint64_t max_tar_bytes;   /* uncompressed archive; 64 GiB */
    uint64_t max_image_bytes; /* resulting image, holes included; 256 GiB */
    uint64_t max_file_bytes;  /* one file, holes included; 1 TiB */
    uint64_t max_entries;     /* archive members; 1,048,576 */
    uint64_t max_memory;      /* names and attributes; 192 MiB */
    uint64_t max_ratio; /* archive bytes per blob byte, once the archive is over 1 GiB; 1100 */
};

/*
 * Convert the whole blob into out_fd: a regular file or memfd, emptied first, not synced; its final
 * size is a multiple of 4096. diff_id gets the digest of the uncompressed archive to its last byte.
 * The input is read to its end; bytes after the compressed stream are SM_ECORRUPT. An archive that
 * is cut off between two members is taken (umoci writes no end mark): the diff id tells. limits may
 * be NULL. On error the contents of out_fd mean nothing. Needs no locks: calls with different
 * arguments may run in parallel.
 */
int layer_to_erofs(const struct layer_input *in, enum layer_codec codec, int out_fd,
                   const struct layer_limits *limits, char diff_id[DIGEST_STR_SIZE],
                   struct sm_error *err);

#endif
