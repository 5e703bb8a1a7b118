/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unpack_kernel BZIMAGE OUT: the vmlinux inside, as our loader unpacks it. QEMU can boot it too,
 * and is then spared the unpacking in the guest.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/le.h"
#include "vm/kernel.h"

#define SECTOR 512u
#define SETUP_HEADER_END 0x250u
#define PAYLOAD_OFFSET 0x248u
#define PAYLOAD_LENGTH 0x24cu

static int copy(struct kernel_stream *from, int to, struct sm_error *err)
{
    uint8_t chunk[65536];
    int64_t n;

    while ((n = from->read(from, chunk, sizeof chunk, err)) > 0)
        if (write(to, chunk, (size_t)n) != n)
            return err_sys(err, "cannot write the vmlinux");
    return (int)n;
}

static int unpack(const char *in, const char *out, struct sm_error *err)
{
    uint8_t head[SETUP_HEADER_END];
    struct file_stream file;
    struct payload *payload = NULL;
    int rc, from = open(in, O_RDONLY | O_CLOEXEC), to = -1;

    if (from < 0 || pread(from, head, sizeof head, 0) != (ssize_t)sizeof head)
        rc = err_sys(err, "cannot read %s", in);
    else if ((to = open(out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) < 0)
        rc = err_sys(err, "cannot create %s", out);
    else {
        uint64_t setup = (head[KERNEL_SETUP_OFFSET] + 1u) * SECTOR;
        file_stream_init(&file, from, setup + le32_get(head + PAYLOAD_OFFSET),
                         le32_get(head + PAYLOAD_LENGTH));
        rc = payload_new(&file, &payload, err);
        if (rc == 0)
            rc = copy(payload_stream(payload), to, err);
    }
    payload_free(payload);
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    return rc;
}

int main(int argc, char **argv)
{
    struct sm_error err = {0};

    if (argc != 3) {
        fputs("usage: unpack_kernel BZIMAGE OUT\n", stderr);
        return 2;
    }
    if (unpack(argv[1], argv[2], &err) == 0)
        return 0;
    fprintf(stderr, "unpack_kernel: %s\n", err.text);
    return 1;
}
