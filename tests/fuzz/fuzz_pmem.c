// SPDX-License-Identifier: Apache-2.0
/* virtio-pmem under any guest. */
#include "dev/pmem.h"
#include "fuzz_device.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pmem_config config = {FAKE_WINDOW, FAKE_WINDOW_BYTES, -1};
    struct fuzz_input in = {data, size};
    struct fake_driver f;
    struct virtio_env env;
    struct pmem *p;

    fake_init(&f);
    env = fake_env(&f);
    if (pmem_new(&env, &config, &p, NULL) != 0)
        abort();
    fake_attach(&f, pmem_virtio(p));
    fake_start(&f, 1, (uint16_t)(1u << fuzz_u8(&in) % 9),
               fuzz_u8(&in) & 1 ? VIRTIO_F_EVENT_IDX : 0);
    while (in.left != 0) {
        fuzz_device_op(&f, &in, 1);
        fuzz_device_check(&f, pmem_virtio(p));
    }
    fake_run(&f);
    fake_detach(&f);
    pmem_free(p);
    fake_fini(&f);
    return 0;
}
