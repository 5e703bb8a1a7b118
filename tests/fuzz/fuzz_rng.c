// SPDX-License-Identifier: Apache-2.0
/* virtio-rng under any guest. */
#include "dev/rng.h"
#include "fuzz_device.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    struct fake_driver f;
    struct virtio_env env;
    struct rng *r;

    fake_init(&f);
    env = fake_env(&f);
    if (rng_new(&env, &r, NULL) != 0)
        abort();
    fake_attach(&f, rng_virtio(r));
    fake_start(&f, 1, (uint16_t)(1u << fuzz_u8(&in) % 9),
               fuzz_u8(&in) & 1 ? VIRTIO_F_EVENT_IDX : 0);
    while (in.left != 0) {
        fuzz_device_op(&f, &in, 1);
        fuzz_device_check(&f, rng_virtio(r));
    }
    fake_run(&f);
    fake_detach(&f);
    rng_free(r);
    fake_fini(&f);
    return 0;
}
