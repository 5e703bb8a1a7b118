/* SPDX-License-Identifier: Apache-2.0 */
/* layer2erofs tar|gzip|zstd LAYER IMAGE: the converter on a file, for tests. Prints the diff id. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/layer.h"

static ssize_t read_fd(void *opaque, void *buf, size_t len)
{
    return read(*(int *)opaque, buf, len);
}

/* SM_LIMITS=tar,image,file,entries,memory,ratio: decimal, 0 or missing = default. */
static struct layer_limits limits_from_env(void)
{
    struct layer_limits l = {0};
    uint64_t *v[] = {&l.max_tar_bytes, &l.max_image_bytes, &l.max_file_bytes,
                     &l.max_entries,   &l.max_memory,      &l.max_ratio};
    const char *s = getenv("SM_LIMITS");
    for (size_t i = 0; s && i < sizeof v / sizeof *v; i++) {
        *v[i] = strtoull(s, NULL, 10);
        s = strchr(s, ',');
        s = s ? s + 1 : NULL;
    }
    return l;
}

int main(int argc, char **argv)
{
    static const char *const codecs[] = {"tar", "gzip", "zstd"};
    int codec = 0;
    while (argc == 4 && codec < 3 && strcmp(argv[1], codecs[codec]) != 0) {
        codec++;
    }
    if (argc != 4 || codec == 3) {
        fprintf(stderr, "usage: layer2erofs tar|gzip|zstd LAYER IMAGE\n");
        return 2;
    }
    int in = open(argv[2], O_RDONLY), out = open(argv[3], O_RDWR | O_CREAT | O_TRUNC, 0666);
    if (in < 0 || out < 0) {
        fprintf(stderr, "layer2erofs: %s: %s\n", argv[in < 0 ? 2 : 3], strerror(errno));
        return 2;
    }
    struct layer_input input = {read_fd, &in};
    struct layer_limits limits = limits_from_env();
    struct sm_error err;
    char diff_id[DIGEST_STR_SIZE];
    int rc = layer_to_erofs(&input, (enum layer_codec)codec, out, &limits, diff_id, &err);
    if (rc) {
        fprintf(stderr, "layer2erofs: %s (%d)\n", err.text, rc);
        return 1;
    }
    puts(diff_id);
    return 0;
}
