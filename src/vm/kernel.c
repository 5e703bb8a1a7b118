// SPDX-License-Identifier: Apache-2.0
/* Which kind of kernel file is it, and where in it does the ELF file begin. */
#include "vm/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/le.h"

/* Setup header fields, as offsets in the file (boot.rst, "The Real-Mode Kernel Header"). */
#define HDR_SETUP_SECTS 0x1f1
#define HDR_BOOT_FLAG 0x1fe
#define HDR_JUMP_LEN 0x201 /* the header ends at 0x202 + this byte */
#define HDR_MAGIC 0x202
#define HDR_VERSION 0x206
#define HDR_XLOADFLAGS 0x236
#define HDR_PAYLOAD_OFFSET 0x248
#define HDR_PAYLOAD_LENGTH 0x24c
#define HDR_MIN_FILE 0x270
#define XLF_KERNEL_64 0x1
#define VERSION_PAYLOAD 0x208    /* first with payload_offset */
#define VERSION_XLOADFLAGS 0x20c /* first with xloadflags */

static int64_t file_stream_read(struct kernel_stream *s, void *data, size_t len,
                                struct sm_error *err)
{
    struct file_stream *f = (struct file_stream *)s;
    ssize_t n;
    if (len > f->left)
        len = f->left;
    if (len == 0)
        return 0;
    do
        n = pread(f->fd, data, len, (off_t)f->offset);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        err_sys(err, "cannot read it");
        return -1;
    }
    f->offset += (uint64_t)n;
    f->left -= (uint64_t)n;
    return n;
}

void file_stream_init(struct file_stream *f, int fd, uint64_t offset, uint64_t len)
{
    *f = (struct file_stream){
        .base.read = file_stream_read, .fd = fd, .offset = offset, .left = len};
}

static int load_bzimage(int fd, uint64_t file_len, const uint8_t head[HDR_MIN_FILE], struct mem *m,
                        struct kernel_info *out, struct sm_error *err)
{
    uint16_t version = le16_get(head + HDR_VERSION);
    if (version < VERSION_PAYLOAD)
        return err_set(err, SM_EUNSUPPORTED, "its boot protocol %u.%02u is older than 2.08",
                       version >> 8, version & 0xff);
    if (version >= VERSION_XLOADFLAGS && !(le16_get(head + HDR_XLOADFLAGS) & XLF_KERNEL_64))
        return err_set(err, SM_EUNSUPPORTED, "it has no 64-bit entry point (a 32-bit kernel?)");

    /* The payload is counted from the end of the real-mode part. All sums fit in 64 bits. */
    uint64_t sectors = head[HDR_SETUP_SECTS] ? head[HDR_SETUP_SECTS] : 4;
    uint64_t offset = (sectors + 1) * 512 + le32_get(head + HDR_PAYLOAD_OFFSET);
    uint64_t len = le32_get(head + HDR_PAYLOAD_LENGTH);
    if (len == 0 || offset + len > file_len)
        return err_set(err, SM_ECORRUPT, "its payload lies outside of the file (file cut short?)");

    size_t header_end = HDR_MAGIC + head[HDR_JUMP_LEN];
    out->setup_len = header_end - KERNEL_SETUP_OFFSET;
    if (header_end > HDR_MIN_FILE || out->setup_len > KERNEL_SETUP_MAX)
        out->setup_len = KERNEL_SETUP_MAX;
    memcpy(out->setup_header, head + KERNEL_SETUP_OFFSET, out->setup_len);

    struct file_stream src;
    struct payload *p;
    file_stream_init(&src, fd, offset, len);
    int rc = payload_new(&src, &p, err);
    if (rc)
        return rc;
    rc = elf_load(payload_stream(p), m, out, err);
    payload_free(p);
    return rc;
}

/* The few header fields that the kernel itself looks at, for a vmlinux that has none. */
static void synthetic_header(struct kernel_info *out)
{
    uint8_t *h = out->setup_header;
    out->setup_len = HDR_MIN_FILE - KERNEL_SETUP_OFFSET;
    le16_put(h + HDR_BOOT_FLAG - KERNEL_SETUP_OFFSET, 0xaa55);
    memcpy(h + HDR_MAGIC - KERNEL_SETUP_OFFSET, "HdrS", 4);
    le16_put(h + HDR_VERSION - KERNEL_SETUP_OFFSET, 0x20c);
    le16_put(h + HDR_XLOADFLAGS - KERNEL_SETUP_OFFSET, XLF_KERNEL_64);
}

static int load_any(int fd, struct mem *m, struct kernel_info *out, struct sm_error *err)
{
    uint8_t head[HDR_MIN_FILE] = {0};
    struct stat st;
    if (fstat(fd, &st) != 0)
        return err_sys(err, "cannot read it");
    if (!S_ISREG(st.st_mode))
        return err_set(err, SM_EINVAL, "not a regular file");
    struct file_stream whole;
    file_stream_init(&whole, fd, 0, (uint64_t)st.st_size);
    ssize_t got = pread(fd, head, sizeof head, 0);
    if (got < 0)
        return err_sys(err, "cannot read it");
    if (got >= 4 && memcmp(head, "\177ELF", 4) == 0) {
        synthetic_header(out);
        return elf_load(&whole.base, m, out, err);
    }
    if (got == sizeof head && le16_get(head + HDR_BOOT_FLAG) == 0xaa55 &&
        memcmp(head + HDR_MAGIC, "HdrS", 4) == 0)
        return load_bzimage(fd, (uint64_t)st.st_size, head, m, out, err);
    return err_set(err, SM_EINVAL, "neither a bzImage nor an ELF vmlinux");
}

int kernel_load_fd(int fd, const char *name, struct mem *m, struct kernel_info *out,
                   struct sm_error *err)
{
    *out = (struct kernel_info){0};
    int rc = load_any(fd, m, out, err);
    return rc ? err_wrap(err, rc, "kernel %s", name) : 0;
}

int kernel_load(const char *path, struct mem *m, struct kernel_info *out, struct sm_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_sys(err, "kernel %s: cannot open it", path);
    int rc = kernel_load_fd(fd, path, m, out, err);
    close(fd);
    return rc;
}
