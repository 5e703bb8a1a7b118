// SPDX-License-Identifier: Apache-2.0
/* virtio-balloon under any guest. Requests are made by the dozen, or the fuzzer would hardly ever
 * name a page of RAM. That nothing else goes is fake_driver's to see: it takes only memory as
 * written. */
#include "base/le.h"
#include "dev/balloon.h"
#include "fuzz_device.h"

#define NUMBERS (FAKE_BUFFERS - 4096)

static void numbers(struct fake_driver *f, struct fuzz_input *in)
{
    unsigned queue = fuzz_u8(in) & 1, n = 1 + (fuzz_u8(in) & 15);
    uint8_t *p = mem_ptr_write(f->mem, NUMBERS, 64);
    struct fake_desc d = {NUMBERS, 4 * n - (n & 1), 0, 0};

    for (unsigned i = 0; i < n; i++)
        le32_put(p + 4 * i, fuzz_u8(in) & 7 ? fuzz_u16(in) : fuzz_u32(in));
    fake_offer(f, queue, fuzz_u8(in) % f->queues[queue].size, &d, 1);
    fake_kick(f, queue);
}

static void ranges(struct fake_driver *f, struct fuzz_input *in)
{
    unsigned queue = 2 + fuzz_u8(in) % 3, n = 1 + (fuzz_u8(in) & 3);
    struct fake_desc d[4];

    for (unsigned i = 0; i < n; i++)
        d[i] = (struct fake_desc){fuzz_gpa(in), fuzz_u16(in) * 16u + (i & 1), FAKE_WRITE, 0};
    fake_offer(f, queue, fuzz_u8(in) % f->queues[queue].size, d, n);
    fake_kick(f, queue);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    struct fake_driver f;
    struct virtio_env env;
    struct balloon *b;
    uint8_t setup = fuzz_u8(&in);

    fake_init(&f);
    env = fake_env(&f);
    if (balloon_new(&env, &b, NULL) != 0)
        abort();
    fake_attach(&f, balloon_virtio(b));
    fake_start(&f, 5, (uint16_t)(1u << fuzz_u8(&in) % 9),
               (setup & 1 ? VIRTIO_F_EVENT_IDX : 0) | (setup & 2 ? BALLOON_F_REPORTING : 0));
    while (in.left != 0) {
        uint8_t what = fuzz_u8(&in) & 3;

        if (what == 0)
            numbers(&f, &in);
        else if (what == 1)
            ranges(&f, &in);
        else
            fuzz_device_op(&f, &in, 5);
        fuzz_device_check(&f, balloon_virtio(b));
    }
    fake_run(&f);
    fake_detach(&f);
    balloon_free(b);
    fake_fini(&f);
    return 0;
}
