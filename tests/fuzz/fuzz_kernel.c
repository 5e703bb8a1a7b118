// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel loader on any bytes: a bzImage with any payload, or an ELF file. The first byte
 * chooses: as it is, or as the payload of a well-formed bzImage, so that the fuzzer need not find
 * that frame itself.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/le.h"
#include "vm/kernel.h"

#define RAM_BYTES (32ull << 20)
#define SETUP_BYTES 1024

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_file(int fd, const uint8_t *data, size_t size)
{
    uint8_t setup[SETUP_BYTES] = {0};
    if (data[0] & 1) {
        setup[0x1f1] = 1;
        le16_put(setup + 0x1fe, 0xaa55);
        setup[0x201] = 0x6a;
        memcpy(setup + 0x202, "HdrS", 4);
        le16_put(setup + 0x206, 0x20f);
        le16_put(setup + 0x236, 1);
        le32_put(setup + 0x24c, (uint32_t)size - 1);
        if (write(fd, setup, sizeof setup) != sizeof setup)
            abort();
    }
    if (write(fd, data + 1, size - 1) != (ssize_t)size - 1)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kernel_info info;
    struct sm_error err = {0};
    struct mem *m;
    if (size < 2)
        return 0;
    int fd = memfd_create("kernel", MFD_CLOEXEC);
    if (fd < 0 || mem_new(RAM_BYTES, &m, &err) != 0)
        abort();
    write_file(fd, data, size);
    int rc = kernel_load_fd(fd, "fuzz", m, &info, &err);
    if (rc != err.code || (rc != 0 && err.text[0] == 0))
        abort();
    /* A kernel that was accepted can be entered: its entry lies in loaded RAM above the boot data.
     */
    if (rc == 0 && (info.entry < KERNEL_MIN_GPA || info.entry >= info.end || info.end > RAM_BYTES ||
                    info.setup_len > KERNEL_SETUP_MAX || !mem_ptr(m, info.entry, 1)))
        abort();
    mem_free(m);
    close(fd);
    return 0;
}
