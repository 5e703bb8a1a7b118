// SPDX-License-Identifier: Apache-2.0
/* supermachine doctor: what is here, and for what is not, why and what to do. Starts nothing. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"

const struct opt doctor_options[] = {{0}};

static bool report_engines(void)
{
    struct sm_engine_info info;
    bool usable = false;
    for (unsigned i = 0; sm_engine_info(i, &info) == 0; i++) {
        usable |= info.automatic;
        printf("engine %-9s %s%s%s\n", info.name, info.usable ? "usable" : "not usable",
               info.automatic ? "; chosen by --engine auto" : "",
               info.usable ? (strcmp(info.name, "soft") == 0 ? " (software processor)" : "") : "");
        if (!info.usable)
            printf("                 %s\n", info.error.text);
    }
    return usable;
}

/* One of the files that come with the program. */
static bool report_file(const char *what, const char *dir, const char *file)
{
    char path[4200];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", dir, file);
    bool fine = dir[0] && access(path, R_OK) == 0 && stat(path, &st) == 0;
    if (fine && S_ISREG(st.st_mode))
        printf("%-16s %s (%.1f MiB)\n", what, path, (double)st.st_size / (1 << 20));
    else if (fine)
        printf("%-16s %s\n", what, path);
    else
        printf("%-16s missing: %s\n", what, dir[0] ? path : "nothing is installed");
    return fine;
}

int cmd_doctor(const struct cmd *cmd, int argc, char **argv)
{
    struct opts o;
    struct sm_limits limits;
    struct sm_error err = {0};
    sm_store *store;
    opts_init(&o, cmd, argv);
    int id = opts_next(&o);
    if (id == OPTS_HELP)
        return 0;
    if (id != OPTS_END)
        return EXIT_OURS;
    if (argv[o.next])
        return say("doctor: unexpected argument \"%.60s\"; see `supermachine help doctor`",
                   argv[o.next]);
    sm_limits(&limits);
    printf("version          %s\n", sm_version());
    bool fine = report_engines();
    printf("memory of a VM   %u to %u MiB, %u unless --memory says otherwise\n",
           limits.memory_min_mib, limits.memory_max_mib, limits.memory_default_mib);
    if (sm_store_open(NULL, &store, &err) != 0) {
        printf("store            not usable: %s\n", err.text);
        return EXIT_OURS;
    }
    const char *data = sm_store_data_dir(store);
    fine &= report_file("kernel", data, "guest/vmlinuz");
    fine &= report_file("initramfs", data, "guest/initramfs.cpio");
    fine &= report_file("image busybox", data, "images/busybox");
    bool writable = access(sm_store_path(store), W_OK | X_OK) == 0;
    printf("store            %s%s\n", sm_store_path(store),
           writable ? "" : " (cannot be written: only images that are in it can be used)");
    sm_store_free(store);
    printf("%s\n", fine ? "all is well" : "something is missing");
    return fine ? 0 : EXIT_OURS;
}
