/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each module costs boot time, most of all on the software CPU, so drivers are loaded only for
 * devices that are there. virtio_mmio comes first in the list; from then on the bus can be asked.
 */
#include "modules.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "klog.h"

/* Bit n: a virtio device with id n exists. */
static uint64_t present_ids(void)
{
    DIR *bus = opendir("/sys/bus/virtio/devices");
    uint64_t ids = 0;

    for (struct dirent *e = bus ? readdir(bus) : NULL; e; e = readdir(bus)) {
        char path[300], text[16] = "";
        unsigned long id;
        int fd;

        snprintf(path, sizeof path, "/sys/bus/virtio/devices/%.200s/device", e->d_name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        id = read(fd, text, sizeof text - 1) > 0 ? strtoul(text, NULL, 16) : 64;
        if (id < 64)
            ids |= UINT64_C(1) << id;
        close(fd);
    }
    if (bus)
        closedir(bus);
    return ids;
}

static bool load(const char *file)
{
    char path[128];
    int fd, status;

    snprintf(path, sizeof path, "/modules/%.100s", file);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    status = fd < 0 ? -1 : (int)syscall(SYS_finit_module, fd, "", 0);
    if (status < 0 && errno != EEXIST)
        klog_error("module %s: %s", file, strerror(errno));
    if (fd >= 0)
        close(fd);
    return status == 0;
}

unsigned modules_load(void)
{
    FILE *order = fopen("/modules/order", "re");
    char line[160], file[101], id[16];
    unsigned count = 0;
    uint64_t ids = 0;

    if (!order)
        klog_info("no modules in the initramfs");
    while (order && fgets(line, sizeof line, order)) {
        if (sscanf(line, "%100s %15s", file, id) != 2)
            continue;
        if (strcmp(id, "-") != 0) {
            if (!ids)
                ids = present_ids();
            if (!(ids & UINT64_C(1) << (strtoul(id, NULL, 10) & 63)))
                continue;
        }
        count += load(file);
    }
    if (order)
        fclose(order);
    return count;
}
