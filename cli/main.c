// SPDX-License-Identifier: Apache-2.0
/* The program: one table of commands, from which help comes too. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "completion.h"
#include "man_page.h"

static int cmd_help(const struct cmd *cmd, int argc, char **argv);
static int cmd_version(const struct cmd *cmd, int argc, char **argv);
static int cmd_completion(const struct cmd *cmd, int argc, char **argv);

enum { OPT_MAN = 1 };

static const struct opt help_options[] = {
    {0, "man", NULL, "print the commands for the manual page, as mdoc(7)", OPT_MAN},
    {0},
};

static const struct cmd commands[] = {
    {"run", "Start a microVM from an image, and run a command in it.",
     "[OPTION...] IMAGE [COMMAND [ARG...]]",
     "IMAGE is busybox (built in), [HOST/]NAME[:TAG|@DIGEST] from the store or its registry,\n"
     "oci:DIR[:TAG], docker-archive:FILE[:NAME] or snapshot:DIR.\n"
     "The first run of an image boots it and keeps a snapshot, from which later ones start.\n"
     "Without COMMAND the image's own is run. The exit status is the command's; 124: timed out;\n"
     "125: supermachine failed; 126: COMMAND cannot be executed; 127: it was not found.\n"
     "Ctrl-C interrupts the command, a second one ends the VM.",
     run_options, cmd_run},
    {"exec", "Run a command in a VM that runs.", "[OPTION...] NAME COMMAND [ARG...]",
     "NAME is what `run --name` gave, or `run -d` printed. The exit status is as of `run`. When "
     "this\n"
     "program is killed, so is the command.",
     exec_options, cmd_exec},
    {"ps", "List the VMs that run and have a name.", "[OPTION...]", NULL, ps_options, cmd_ps},
    {"cp", "Copy a file into a VM that runs, or out of it.", "FILE NAME:PATH | NAME:PATH FILE",
     "PATH is from the guest's root. A folder as the target gets a file of the same name in it.\n"
     "FILE may be - for stdin or stdout. Whole folders go through tar:\n"
     "tar c DIR | supermachine exec -i NAME tar x",
     NULL, cmd_cp},
    {"logs", "Show what a detached VM's command wrote.", "[OPTION...] NAME",
     "The newest 16 MiB are kept. Messages of the VM's own process come last, on stderr.",
     logs_options, cmd_logs},
    {"snapshot", "Save a VM that runs in a new folder; it goes on.", "NAME DIR",
     "`run snapshot:DIR` starts VMs from it, as often as you like. Commands that ran lose their\n"
     "streams there, and end; what they left in the background goes on. Volumes are saved, too: "
     "each\n"
     "VM from it begins with what was on them, and what it writes there is its own and ends with "
     "it.\n"
     "A VM with shared folders cannot be saved. Prints how long the VM stood still: longer by "
     "copying\n"
     "what is on its volumes where the file system shares no blocks (Btrfs and XFS do).",
     NULL, cmd_snapshot},
    {"fork", "Start clones of a VM that runs; it goes on.", "[OPTION...] NAME",
     "Each goes on from the same moment, in the background, with a host name, machine id and "
     "random\n"
     "numbers of its own; their names are printed. What runs in the background runs in each; the\n"
     "VM's command and those of `exec` lose their streams in the clones, and end there. A clone\n"
     "lives until `stop`, which ends all of its processes. It has the VM's --engine. Of volumes "
     "each\n"
     "has a copy that ends with it (see `snapshot`); a VM with shared folders has no clones.",
     fork_options, cmd_fork},
    {"stop", "End VMs: SIGTERM to the command, then the VM.", "[OPTION...] NAME...", NULL,
     stop_options, cmd_stop},
    {"wait", "Wait until VMs have ended, and print their exit codes.", "NAME...", NULL, NULL,
     cmd_wait},
    {"rm", "Forget VMs that have ended.", "[OPTION...] NAME...",
     "A detached VM's exit code and log are kept until then.", rm_options, cmd_rm},
    {"pool", "Keep VMs of an image ready for `run --pool`.",
     "start [OPTION...] IMAGE | ls [--json] | stop IMAGE...",
     "`start` goes on in the background, with restored VMs that wait. Each `run --pool IMAGE` gets "
     "one of\n"
     "its own, which is then restored from the snapshot again. There is one pool of an image, as "
     "the image\n"
     "was when it was started; `run --pool` without one is an error. `stop` ends its VMs at once, "
     "with\n"
     "the commands in them. When its process is killed its VMs end, and `start` makes it anew.",
     pool_options, cmd_pool},
    {"pull", "Bring an image from its registry into the store.", "[OPTION...] IMAGE",
     "IMAGE is [HOST/]NAME[:TAG|@DIGEST], as for Docker. Credentials are Docker's, or those in\n"
     "SUPERMACHINE_REGISTRY_AUTH=HOST=USER:PASSWORD. What is there already is not fetched again.",
     pull_options, cmd_pull},
    {"save", "Write images of the store into an archive or a folder.", "[OPTION...] IMAGE...",
     "The default is what `docker save` writes, and also an OCI layout. A file or folder appears\n"
     "when it is complete. The images stay in the store.",
     save_options, cmd_save},
    {"load", "Bring the images of an archive or a folder into the store.", "[OPTION...]",
     "What `save` and `docker save` write, compressed or not, or an OCI layout's folder. Prints\n"
     "the names that the store has now.",
     load_options, cmd_load},
    {"images", "List the images that the store has.", "[--json]", NULL, json_options, cmd_images},
    {"inspect", "Tell what the store knows of an image, as JSON.", "[--json] IMAGE", NULL,
     json_options, cmd_inspect},
    {"rmi", "Remove images, and what only they need.", "[--json] IMAGE...",
     "VMs that run from them go on.", json_options, cmd_rmi},
    {"gc", "Remove what no image needs.", "[--json]",
     "That is what broken pulls left, and layers of images that were run from a folder or an\n"
     "archive; they are made again when needed. What is in use stays.",
     json_options, cmd_gc},
    {"volume", "List, make or remove named volumes.", "ls [--json] | create NAME | rm NAME...",
     "`run -v NAME:/path` makes a volume when it is first used: a sparse file of 10 GiB in the\n"
     "store, with ext4. `rm` deletes what is on it; nothing else ever does.",
     json_options, cmd_volume},
    {"verify", "Compare everything in the store with its checksum.", "[OPTION...]",
     "The exit status is 1 when there are problems that were not repaired.", verify_options,
     cmd_verify},
    {"bake", "Make the snapshot from which `run` starts an image.", "[OPTION...] IMAGE",
     "Prints the snapshot's folder, which `run snapshot:DIR` takes, too. Without --warmup it is\n"
     "what the first `run` makes. Nothing is done if it is there already.",
     bake_options, cmd_bake},
    {"doctor", "Say what this host can do: engines, kernel, images, store.", "[--json]", NULL,
     doctor_options, cmd_doctor},
    {"completion", "Print a script with which a shell completes this program's arguments.",
     "bash|zsh",
     "For this shell: source <(supermachine completion bash). `make install` puts both scripts\n"
     "where the shells find them.",
     NULL, cmd_completion},
    {"version", "Print the version.", "", NULL, NULL, cmd_version},
    {"help", "Explain the program, or a command.", "[OPTION] [COMMAND]", NULL, help_options,
     cmd_help},
};
#define COMMANDS (sizeof commands / sizeof commands[0])

static const struct cmd *find(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static void help_all(FILE *to)
{
    fprintf(to, "usage: supermachine COMMAND [ARG...]\n\n"
                "Run OCI images as microVMs.\n\nCommands:\n");
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fprintf(to, "\n`supermachine help COMMAND` tells more. Try: supermachine run busybox uname -a\n"
                "State is kept in $SUPERMACHINE_HOME, else $XDG_DATA_HOME/supermachine, else\n"
                "~/.local/share/supermachine.\n");
}

/* For commands without options: 0 when there is something left to do, else *code is set. */
static int no_options(const struct cmd *cmd, char **argv, struct opts *o, int *code)
{
    opts_init(o, cmd, argv);
    int id = opts_next(o);
    *code = id == OPTS_HELP ? 0 : EXIT_OURS;
    return id == OPTS_END ? 0 : -1;
}

static int cmd_help(const struct cmd *cmd, int argc, char **argv)
{
    struct opts o;
    int id;
    bool man = false;
    opts_init(&o, cmd, argv);
    while ((id = opts_next(&o)) == OPT_MAN)
        man = true;
    if (id != OPTS_END)
        return id == OPTS_HELP ? 0 : EXIT_OURS;
    if (man) {
        man_page_commands(commands, COMMANDS);
        return 0;
    }
    if (!argv[o.next]) {
        help_all(stdout);
        return 0;
    }
    const struct cmd *about = find(argv[o.next]);
    if (!about)
        return say("help: no command \"%.60s\"; see `supermachine help`", argv[o.next]);
    help_command(about);
    return 0;
}

static int cmd_version(const struct cmd *cmd, int argc, char **argv)
{
    struct opts o;
    int code;
    if (no_options(cmd, argv, &o, &code))
        return code;
    if (argv[o.next])
        return say("version: unexpected argument \"%.60s\"; see `supermachine help version`",
                   argv[o.next]);
    printf("supermachine %s\n", sm_version());
    return 0;
}

static int cmd_completion(const struct cmd *cmd, int argc, char **argv)
{
    struct opts o;
    int code;
    if (no_options(cmd, argv, &o, &code))
        return code;
    if (!argv[o.next] || argv[o.next + 1])
        return say("completion: one shell is needed, bash or zsh");
    return completion_print(argv[o.next], commands, COMMANDS);
}

/* Output that nobody could take is a failure, but of a closed pipe nobody wants to hear. */
static int finish(int code)
{
    if (fflush(stdout) != 0 || ferror(stdout))
        return code ? code : EXIT_OURS;
    return code;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        help_all(stderr);
        return EXIT_OURS;
    }
    const char *name = argv[1];
    if (strcmp(name, "--version") == 0)
        name = "version";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    const struct cmd *cmd = find(name);
    if (!cmd)
        return say("no command \"%.60s\"; see `supermachine help`", name);
    return finish(cmd->run(cmd, argc - 1, argv + 1));
}
