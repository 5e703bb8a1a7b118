// SPDX-License-Identifier: Apache-2.0
/* virtio-blk under any guest. Requests are made by the dozen, or the fuzzer would hardly ever guess
 * one; whatever happens, the disk keeps its size, and one that is read-only its contents. */
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/le.h"
#include "dev/blk.h"
#include "fuzz_device.h"

#define BYTES (64u << 10)
#define HEAD (FAKE_BUFFERS - 4096)

static void request(struct fake_driver *f, struct fuzz_input *in)
{
    static const uint8_t types[] = {0, 1, 4, 8, 11, 13, 0, 1};
    uint8_t shape = fuzz_u8(in);
    uint8_t *p = mem_ptr_write(f->mem, HEAD, 64);
    struct fake_desc d[4] = {{HEAD, 16}};
    unsigned n = 1;

    le32_put(p, types[shape & 7]);
    le64_put(p + 8, fuzz_u8(in)); /* a little more than there are sectors */
    le64_put(p + 16, fuzz_u8(in));
    le32_put(p + 24, fuzz_u8(in));
    le32_put(p + 28, shape >> 7);
    if (shape & 8)
        d[n++] = (struct fake_desc){HEAD + 16, 16, 0, 0};
    if (shape & 16)
        d[n++] = (struct fake_desc){fuzz_gpa(in), (fuzz_u8(in) & 7) * 512u + (shape >> 6 & 1),
                                    shape & 32 ? FAKE_WRITE : 0, 0};
    d[n++] = (struct fake_desc){HEAD + 64, types[shape & 7] == 8 ? 21 : 1, FAKE_WRITE, 0};
    fake_offer(f, 0, fuzz_u8(in) % f->queues[0].size, d, n);
    fake_kick(f, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct blk_config config = {.id = "fuzz", .name = "fuzz"};
    struct fuzz_input in = {data, size};
    struct fake_driver f;
    struct virtio_env env;
    struct blk *b;
    uint8_t setup = fuzz_u8(&in);
    bool read_only = setup & 1;
    int fd = memfd_create("fuzz_blk", MFD_CLOEXEC);
    struct stat st;
    static uint8_t now[BYTES];

    if (fd < 0 || ftruncate(fd, BYTES) != 0 || disk_init(&config.disk, fd, read_only, "", NULL))
        abort();
    fake_init(&f);
    env = fake_env(&f);
    if (blk_new(&env, &config, &b, NULL) != 0)
        abort();
    fake_attach(&f, blk_virtio(b));
    fake_start(&f, 1, (uint16_t)(1u << fuzz_u8(&in) % 9),
               (setup & 2 ? VIRTIO_F_EVENT_IDX : 0) |
                   (read_only ? 0 : (uint64_t)(setup >> 2 & 7) << 12 & (3u << 13)));
    while (in.left != 0) {
        if (fuzz_u8(&in) & 1)
            request(&f, &in);
        else
            fuzz_device_op(&f, &in, 1);
        fuzz_device_check(&f, blk_virtio(b));
    }
    fake_run(&f);
    fake_detach(&f);
    blk_free(b);
    fake_fini(&f);
    if (fstat(fd, &st) != 0 || st.st_size != BYTES)
        abort();
    if (read_only) {
        if (pread(fd, now, BYTES, 0) != BYTES)
            abort();
        for (unsigned i = 0; i < BYTES; i++)
            if (now[i] != 0)
                abort();
    }
    close(fd);
    return 0;
}
