/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libsupermachine: run OCI images as microVMs.
 *
 *     sm_store *store;  sm_image *image;  sm_vm *vm;  struct sm_error err;  struct sm_output out;
 *     const char *const argv[] = {"uname", "-a", NULL};
 *     struct sm_exec_spec spec = SM_EXEC_SPEC_INIT;
 *     spec.argv = argv;
 *     if (sm_store_open(NULL, &store, &err) || sm_image_from_oci(store, "busybox", &image, &err) ||
 *         sm_vm_start(image, NULL, &vm, &err) || sm_exec_output(vm, &spec, 0, -1, &out, &err))
 *         errx(1, "%s", err.text);
 *
 * What the library does to your process: per VM it starts a child process (supermachine-vmm, in a
 * session of its own, which ends with yours whatever happens) and one thread with all signals
 * blocked. It installs no signal handler, never prints, never exits, and never touches the working
 * directory, umask, locale or environment; it reads the environment only where a comment here says
 * so. It waits for its own children only, and can do without: SIGCHLD is yours.
 *
 * Conventions. Functions that can fail return 0 or one of enum sm_status. Results come through
 * out-parameters, which are NULL (or zero) after a failure. Strings and arrays passed in are
 * copied. Config structs begin with `size` and are initialised by their SM_..._INIT; a field that
 * is zero then, or what INIT made it, means the default. _free functions accept NULL. One object
 * may be used by one thread at a time, but where the comment says "any thread"; different objects
 * are independent. An object must be freed before the one it was made from.
 */
#ifndef SUPERMACHINE_H
#define SUPERMACHINE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Return codes. 0 is success; the values are pinned forever. */
enum sm_status {
    SM_OK = 0,
    SM_EINVAL = -1,       /* an argument or option is out of range */
    SM_ENOTFOUND = -2,    /* image, file, kernel, command ... does not exist */
    SM_EIO = -3,          /* the host refused a file or socket operation (see os_errno) */
    SM_ENOMEM = -4,       /* the host is out of memory, or the request exceeds it */
    SM_ECORRUPT = -5,     /* bytes do not match their digest, or break their format */
    SM_EUNSUPPORTED = -6, /* valid, but not something this version can do */
    SM_EENGINE = -7,      /* the CPU engine cannot run here, or failed */
    SM_EGUEST = -8,       /* the guest crashed, powered off or broke the protocol */
    SM_ETIMEDOUT = -9,    /* a deadline passed */
    SM_EINTR = -10,       /* the caller asked to stop */
    SM_ENOSPC = -11,      /* the disk is full */
};

/*
 * Why a call failed. Filled by every function that takes one, when it returns non-zero; may be
 * NULL. The text is one line without a newline: what failed, on what, why, and what to do.
 */
struct sm_error {
    int code;     /* enum sm_status */
    int os_errno; /* errno of the host call that failed, or 0 */
    char text[512];
};

const char *sm_version(void); /* "0.1.0"; static */
void sm_free(void *memory);   /* for what this header says is freed by it; NULL is fine */

/* --- What is possible here --- */

struct sm_limits {
    uint32_t memory_min_mib, memory_max_mib; /* of one VM on this host */
    uint32_t memory_default_mib;
    uint32_t vcpus_max; /* of one VM */
};
void sm_limits(struct sm_limits *out); /* any thread */

/* One way to run guest instructions. */
struct sm_engine_info {
    const char *name;      /* static: "kvm", "soft" */
    int usable;            /* it can run a guest on this host, now */
    int automatic;         /* it is what SM_ENGINE_AUTO means here */
    struct sm_error error; /* !usable: why not, and the way out; code is 0 else */
};
/* Look at engine number index (0, 1, ...), best first. SM_ENOTFOUND past the last. Any thread. */
int sm_engine_info(unsigned index, struct sm_engine_info *out);

/* --- The store: what this host keeps between runs --- */

typedef struct sm_store sm_store;

struct sm_store_config {
    size_t size;
    /* Folder of the store, created if missing. NULL: $SUPERMACHINE_HOME, else
     * $XDG_DATA_HOME/supermachine, else ~/.local/share/supermachine. */
    const char *path;
    /* Folder of the files that come with the library: guest/vmlinuz and guest/initramfs.cpio, and
     * images/, the built-in images. NULL: found beside the running executable (a build folder, or
     * ../share/supermachine), else where the library was configured to be installed. */
    const char *data_dir;
};
#define SM_STORE_CONFIG_INIT                                                                       \
    {                                                                                              \
        .size = sizeof(struct sm_store_config)                                                     \
    }

/* Any number of processes may have the same store open. config may be NULL. SM_EIO: it cannot be
 * created or read; SM_EUNSUPPORTED: a newer version made it; SM_ECORRUPT: it is no store. */
int sm_store_open(const struct sm_store_config *config, sm_store **out, struct sm_error *err);
void sm_store_free(sm_store *store);
const char *sm_store_path(const sm_store *store);     /* absolute; as long as the store */
const char *sm_store_data_dir(const sm_store *store); /* as long as the store; "" if not found */

/* What holds a guest that has broken out of its virtual machine: layers that work without each
 * other around each VM's process. The first two are in force on every host. */
enum sm_jail {
    SM_JAIL_NO_NEW_PRIVS = 1,
    SM_JAIL_SECCOMP = 2,      /* a list of permitted system calls for each thread */
    SM_JAIL_CAPABILITIES = 4, /* none left */
    SM_JAIL_NAMESPACES = 8,   /* user, mount (an empty root), network, IPC, UTS */
    SM_JAIL_LANDLOCK = 16,    /* no file can be opened */
    SM_JAIL_PIDS = 32,        /* a PID namespace: no other process can be named */
};
/* Which of them this host offers: start a VM's process without a VM, and ask. *layers: bits of enum
 * sm_jail. SM_ENOTFOUND: supermachine-vmm is not installed; SM_EENGINE, SM_EIO: it cannot run. Any
 * thread. */
int sm_jail_probe(const sm_store *store, unsigned *layers, struct sm_error *err);

/* --- Images --- */

typedef struct sm_image sm_image;

/*
 * Open an image and make what the store does not have yet of it; that may take seconds, and no
 * half-made file is ever used later. ref: a built-in image's name ("busybox"), oci:DIR[:TAG],
 * docker-archive:FILE[:NAME], or a name as Docker reads it, [HOST/]PATH[:TAG|@DIGEST]: the store's
 * image of that name, else the registry's (sm_image_pull).
 *
 * SM_EINVAL; SM_ENOTFOUND: no such image, tag or file; SM_ECORRUPT: a digest does not match, or a
 * format is broken; SM_EUNSUPPORTED: media type or platform; SM_EIO, SM_ENOSPC, SM_ENOMEM;
 * SM_ETIMEDOUT: another process makes the same layer and makes no progress, or the registry is
 * silent.
 */
int sm_image_from_oci(sm_store *store, const char *ref, sm_image **out, struct sm_error *err);

enum sm_layer_state {
    SM_LAYER_WAITING = 0,
    SM_LAYER_DOWNLOADING = 1,
    SM_LAYER_READY = 2,
};
struct sm_layer_progress {
    const char *digest;               /* of the layer as the registry has it */
    uint64_t done_bytes, total_bytes; /* of it */
    enum sm_layer_state state;
};

struct sm_pull_config {
    size_t size;
    uint32_t if_missing; /* 1: do not ask the registry for an image that the store has */
    uint32_t idle_ms;    /* give up when the registry is silent for this long; 0: 30000 */
    /* Registries, as HOST or HOST:PORT, that may speak plain http or show any certificate;
     * NULL-terminated, or NULL. Registries on this host may speak http anyway. */
    const char *const *insecure;
    /* Called every 100 ms during a pull, on the caller's thread; n is 0 until the layers are known.
     * A result other than 0 ends the pull with SM_EINTR; nothing half-made stays. May be NULL. */
    int (*progress)(void *opaque, const struct sm_layer_progress *layers, size_t n);
    void *opaque;
};
#define SM_PULL_CONFIG_INIT                                                                        \
    {                                                                                              \
        .size = sizeof(struct sm_pull_config)                                                      \
    }

/*
 * Bring an image from its registry into the store, under its name, and open it. ref and errors as
 * of sm_image_from_oci (what needs no registry is just opened). config may be NULL; out may be
 * NULL: do not open it.
 *
 * From the environment: SUPERMACHINE_REGISTRY_AUTH (HOST=USER:PASSWORD, or the text of a Docker
 * config.json), DOCKER_CONFIG and HOME (Docker's config.json and its credential helpers, which are
 * run), http_proxy, https_proxy, all_proxy, no_proxy, SSL_CERT_FILE, SSL_CERT_DIR.
 */
int sm_image_pull(sm_store *store, const char *ref, const struct sm_pull_config *config,
                  sm_image **out, struct sm_error *err);

/* Digest of its config, which is what Docker calls the image's id; as long as the image. */
const char *sm_image_id(const sm_image *image);
/* Name and manifest digest of what came from the store or a registry; "" for others. */
const char *sm_image_name(const sm_image *image);
const char *sm_image_digest(const sm_image *image);
void sm_image_free(sm_image *image);

/* --- What the store has --- */

struct sm_image_info {
    const char *name;        /* as Docker writes it in full: docker.io/library/debian:12 */
    const char *digest;      /* of the manifest */
    const char *id;          /* digest of the config */
    int64_t added_s;         /* when it was pulled: Unix time */
    uint64_t layer_bytes;    /* on disk: of its layers as VMs use them */
    uint64_t download_bytes; /* as its registry has them */
    uint32_t layers;
    int complete; /* 0: something of it is missing or damaged; the sizes are of what is there */
};
/* Call each for every image that has a name, in no order, until it returns non-zero, which is then
 * returned. What info points to is valid during the call. */
int sm_store_images(sm_store *store, int (*each)(void *opaque, const struct sm_image_info *info),
                    void *opaque, struct sm_error *err);

/* What was freed. */
struct sm_freed {
    uint64_t blobs, layers, snapshots, bytes;
    uint64_t in_use; /* items that no image needs, kept because a process uses them */
};
/* Take an image's name away, and remove what no other image needs. VMs that run from it go on.
 * SM_ENOTFOUND. freed may be NULL. */
int sm_store_remove(sm_store *store, const char *ref, struct sm_freed *freed, struct sm_error *err);
/* Remove everything that no image needs: layers and snapshots of images that were run from a folder
 * or an archive, or are built in (they are made again when needed), and what pulls that were broken
 * off have left. Safe beside all other processes. freed may be NULL. */
int sm_store_gc(sm_store *store, struct sm_freed *freed, struct sm_error *err);

struct sm_verify_config {
    size_t size;
    uint32_t repair;             /* 1: remove what is damaged, and make or pull it again */
    const char *const *insecure; /* as in sm_pull_config */
    /* Called for each problem: what it is about, what is wrong, whether it was repaired. */
    void (*problem)(void *opaque, const char *what, const char *why, int repaired);
    void *opaque;
};
#define SM_VERIFY_CONFIG_INIT                                                                      \
    {                                                                                              \
        .size = sizeof(struct sm_verify_config)                                                    \
    }
struct sm_verified {
    uint64_t images, blobs, layers, bytes; /* looked at */
    uint64_t problems, repaired;
    uint64_t snapshots; /* looked at; a damaged one is repaired by its removal */
};
/* Read everything in the store, and compare it with its digests and checksums. SM_OK also when
 * problems were found. config may be NULL. */
int sm_store_verify(sm_store *store, const struct sm_verify_config *config, struct sm_verified *out,
                    struct sm_error *err);

/* A named volume (struct sm_volume). */
struct sm_volume_info {
    const char *name;
    const char *path;    /* its file on this host */
    uint64_t size_bytes; /* as a guest sees it */
    uint64_t disk_bytes; /* that the host's disk holds of it */
};
/* Call each for every volume, in no order, until it returns non-zero, which is then returned. What
 * info points to is valid during the call. */
int sm_store_volumes(sm_store *store, int (*each)(void *opaque, const struct sm_volume_info *info),
                     void *opaque, struct sm_error *err);
/* Make one; that it is there already is no error. SM_EINVAL: not a name; SM_ENOTFOUND: e2fsprogs is
 * not installed; SM_EIO, SM_ENOSPC. */
int sm_volume_create(sm_store *store, const char *name, struct sm_error *err);
/* Remove one and all that is on it. SM_ENOTFOUND; SM_EINVAL: a VM uses it. */
int sm_volume_remove(sm_store *store, const char *name, struct sm_error *err);

/* What the store knows of an image, as JSON text: name, digests, layers, and the config as it is.
 * *json is freed with sm_free. SM_ENOTFOUND; SM_ECORRUPT. */
int sm_image_inspect(sm_store *store, const char *ref, char **json, struct sm_error *err);

enum sm_image_format {
    SM_FORMAT_DOCKER_ARCHIVE = 0, /* what `docker save` writes since Docker 25: an OCI layout in a
                                     tar, with Docker's manifest.json beside */
    SM_FORMAT_OCI_ARCHIVE = 1,    /* an OCI layout in a tar */
    SM_FORMAT_OCI_DIR = 2,        /* an OCI layout: a folder */
};

struct sm_save_config {
    size_t size;
    uint32_t format; /* enum sm_image_format */
    int fd;          /* borrowed: where an archive is written to when path is NULL */
    /* Called now and then on the caller's thread; a result other than 0 ends it with SM_EINTR. May
     * be NULL. */
    int (*progress)(void *opaque, uint64_t done_bytes, uint64_t total_bytes);
    void *opaque;
};
#define SM_SAVE_CONFIG_INIT                                                                        \
    {                                                                                              \
        .size = sizeof(struct sm_save_config), .fd = -1                                            \
    }

/*
 * Write images that the store has, by name, NULL-terminated, into one archive or folder. It appears
 * at path when it is complete, in place of a file that was there, and never in part; a folder must
 * not exist, or be empty. Each byte is compared with its digest on the way. An image with a Docker
 * manifest gets OCI's media types, and by that another digest, unless its name is a digest.
 *
 * SM_EINVAL; SM_ENOTFOUND: the store has no such image, or not all of it; SM_ECORRUPT: the store is
 * damaged; SM_EINTR; SM_EIO, SM_ENOSPC, SM_ENOMEM. config may be NULL.
 */
int sm_store_save(sm_store *store, const char *const *refs, const char *path,
                  const struct sm_save_config *config, struct sm_error *err);

struct sm_load_config {
    size_t size;
    const char *name; /* what the image is to be called; NULL: as the archive says */
    /* Called for each name that the store has now. May be NULL. */
    void (*loaded)(void *opaque, const char *name, const char *digest);
    void *opaque;
};
#define SM_LOAD_CONFIG_INIT                                                                        \
    {                                                                                              \
        .size = sizeof(struct sm_load_config)                                                      \
    }

/*
 * Bring the images of an archive (any that sm_store_save or `docker save` writes, also compressed,
 * also from a pipe: /dev/stdin) or of an OCI layout's folder into the store, under their names.
 * Everything is checked as a registry's answers are. After an error the images that loaded was
 * called for stay. config may be NULL.
 *
 * SM_EINVAL: it is none, or an image has no full name; SM_ENOTFOUND; SM_ECORRUPT: a digest does not
 * match, or a format is broken; SM_EUNSUPPORTED: media type or platform; SM_EIO, SM_ENOSPC,
 * SM_ENOMEM, SM_ETIMEDOUT.
 */
int sm_store_load(sm_store *store, const char *path, const struct sm_load_config *config,
                  struct sm_error *err);

/*
 * What `docker run IMAGE ARG...` would execute: the image's Entrypoint followed by args, or by its
 * Cmd when args is NULL or empty. A non-NULL entrypoint takes the place of Entrypoint and Cmd; an
 * empty one stands for none. *argv is NULL-terminated and freed with sm_free, as one block.
 * SM_EINVAL when nothing is left to execute.
 */
int sm_image_command(const sm_image *image, const char *entrypoint, const char *const *args,
                     char ***argv, struct sm_error *err);

/* --- Virtual machines --- */

typedef struct sm_vm sm_vm;

enum sm_engine {
    SM_ENGINE_AUTO = 0, /* the best that is usable here */
    SM_ENGINE_KVM = 1,  /* the processor's virtualization */
    SM_ENGINE_SOFT = 2, /* the built-in software processor: runs everywhere */
};

/* What sm_vm_start does with snapshots in the store. */
enum sm_snapshots {
    SM_SNAPSHOTS_AUTO = 0,  /* start from one that fits; the first start boots and makes it */
    SM_SNAPSHOTS_NEVER = 1, /* boot, and make none; memory is shared with one that fits */
    SM_SNAPSHOTS_NEW = 2,   /* boot, and make one in place of what is there */
};

/* For whoever looks for a fault in the engine or in a guest: bits of sm_vm_config.debug. */
enum sm_debug {
    /* Software engine: have each block of instructions replayed in a simple way, and end the VM
     * when the two differ (SM_EENGINE). A few hundred times slower. */
    SM_DEBUG_CHECK = 1,
    /* Tell, a line each: accesses to devices, HLT and stops; delivered interrupts and exceptions;
     * fills and flushes of the TLB; instructions between code_from and code_to. The last three are
     * the software engine's only. */
    SM_DEBUG_TRACE_EXITS = 2,
    SM_DEBUG_TRACE_INTERRUPTS = 4,
    SM_DEBUG_TRACE_TLB = 8,
    SM_DEBUG_TRACE_CODE = 16,
};

/* A disk that outlives the VMs that use it, or a folder of this host's. */
struct sm_volume {
    size_t size;
    /* A name (2 to 64 letters, digits, _ . -; it begins with a letter or digit): the store's volume
     * of that name, made when it is first used, of SM_VOLUME_BYTES, of which the host's disk holds
     * what was written. An empty one takes owner and mode of the folder at path, not its contents.
     * Or the absolute path of a file with an ext4 file system.
     *
     * Or that of a folder, which the guest then shares with this host and with other VMs: each sees
     * what the others write, names and attributes after up to a second. It reaches what lies
     * beneath the folder and nothing else, whatever links are there, with the rights of the user
     * who runs this, but never root's privileges. Files of that user and group are shown as the
     * guest's uid:gid, all others as 65534:65534, and owners cannot be changed; there are no device
     * nodes, set-user-id files, or extended attributes but user.*; locks are the guest's own. */
    const char *source;
    const char *path; /* where the guest has it: absolute, not "/"; folders are made as needed */
    uint32_t read_only;
    uint32_t uid, gid; /* of a folder: see above; the guest's root unless set */
};
#define SM_VOLUME_INIT                                                                             \
    {                                                                                              \
        .size = sizeof(struct sm_volume)                                                           \
    }
#define SM_VOLUMES_MAX 16
#define SM_VOLUME_BYTES (10ull << 30)

struct sm_vm_config {
    size_t size;
    uint32_t engine;     /* enum sm_engine */
    uint32_t memory_mib; /* 0: sm_limits' default; odd sizes are rounded up to even */
    uint32_t vcpus;      /* 1 to sm_limits' vcpus_max; 0: 1 */
    const char *kernel;  /* bzImage or ELF vmlinux; NULL: the one in data_dir */
    uint32_t snapshots;  /* enum sm_snapshots */
    uint32_t start_ms;   /* give up when the guest is not ready after this time; 0: 120000 */
    /* Console bytes of the guest (kernel messages), as hostile as all that comes from there. Called
     * on the VM's thread until it has ended, and must not call sm_... on the VM; NULL drops them.
     */
    void (*console)(void *opaque, const void *data, size_t len);
    void *console_opaque;
    const char *cpu; /* processor model "v2" or "v3" (x86-64-v2, -v3); NULL: the host's highest */
    uint32_t debug;  /* SM_DEBUG_*; 0 costs nothing */
    /* SM_DEBUG_CHECK: check only the first runs of a block, then one in so many; 0: every run */
    uint32_t check_every;
    uint64_t code_from, code_to; /* SM_DEBUG_TRACE_CODE: guest-virtual, both included */
    /* What that has to say: lines, one at a time, as hostile as the console's bytes. Called like
     * console. NULL drops them. */
    void (*debug_text)(void *opaque, const char *text, size_t len);
    void *debug_opaque;
    const struct sm_volume *const *volumes; /* NULL-terminated, or NULL: none */
    /* What the host could not do for the guest, as one line: a volume's first I/O error. Called on
     * a thread of the VM; NULL drops it. */
    void (*warning)(void *opaque, const char *text);
    void *warning_opaque;
};
#define SM_VM_CONFIG_INIT                                                                          \
    {                                                                                              \
        .size = sizeof(struct sm_vm_config)                                                        \
    }

/*
 * Start a VM with the image as its root file system; returns when commands can be run in it. What
 * the guest writes is kept in its memory and gone with the VM. config may be NULL.
 *
 * The first start boots, and then leaves a snapshot in the store, from which later ones go on (enum
 * sm_snapshots). A VM started from one has its own random numbers, host name and machine id, and
 * the right time, before any command runs in it. Volumes are mounted then, too; which snapshot is
 * used depends on their number, sizes and whether they are read-only, never on what is on them.
 *
 * A disk is used by one VM that may write to it, or by any number of others, until they end;
 * folders by any number of VMs. What the guest has synced (fsync) is there whatever happens later;
 * the rest when sm_vm_shutdown has ended the VM.
 *
 * SM_EINVAL: a value of config is out of range, or a volume is in use or no disk; SM_ENOTFOUND,
 * SM_EIO: kernel, initramfs or a volume's file cannot be read; SM_ECORRUPT, SM_EUNSUPPORTED: it is
 * no kernel; SM_EUNSUPPORTED: the processor lacks features of the model, which err names;
 * SM_EENGINE: the engine cannot run here, or failed; SM_EGUEST: the guest ended or could not start;
 * SM_ETIMEDOUT; SM_ENOMEM.
 */
int sm_vm_start(sm_image *image, const struct sm_vm_config *config, sm_vm **out,
                struct sm_error *err);

/* --- Snapshots --- */

struct sm_bake_config {
    size_t size;
    const struct sm_vm_config *vm; /* the machine; NULL: all defaults */
    const char *const *warmup;     /* shell commands to run before it is taken, or NULL */
};
#define SM_BAKE_CONFIG_INIT                                                                        \
    {                                                                                              \
        .size = sizeof(struct sm_bake_config)                                                      \
    }

/*
 * Make the snapshot from which sm_vm_start starts this machine: boot, run the warm-up commands,
 * save. If the store has just that already, nothing is done; if another process makes it, wait.
 * *path: its folder, freed with sm_free. config may be NULL. Errors as of sm_vm_start; also
 * SM_EGUEST: a warm-up command did not end with 0; SM_ENOSPC, SM_EIO: it cannot be written;
 * SM_ETIMEDOUT: the other process makes no progress.
 */
int sm_image_bake(sm_image *image, const struct sm_bake_config *config, char **path,
                  struct sm_error *err);

/*
 * An image that is a snapshot, from its folder: each sm_vm_start of it goes on from there. The
 * snapshot is checked whole; its image's layers must be in the store.
 * SM_ENOTFOUND: no such folder, or a layer is missing; SM_ECORRUPT: damaged, truncated, or no
 * snapshot; SM_EUNSUPPORTED: of another version. sm_vm_start then says the same of the machine's
 * state, SM_EENGINE when this host's processor lacks something that the snapshot's has, and
 * SM_EINVAL when memory, vcpus or kernel are given and differ, or volumes where it has its own.
 */
int sm_image_from_snapshot(sm_store *store, const char *folder, sm_image **out,
                           struct sm_error *err);

struct sm_snapshot_info {
    uint64_t pause_ns; /* for how long the guest stood still */
};
/*
 * Take a snapshot of a running VM into a new folder, which then is there whole or not at all. The
 * VM stands still meanwhile, and goes on with its commands. In VMs that are started from it (by
 * sm_image_from_snapshot) these commands have lost their connection, and end; processes that they
 * left in the background go on. info may be NULL.
 *
 * What is on the VM's disks (struct sm_volume) is in it: at once where the file system shares
 * blocks (as Btrfs and XFS do) and they are on the same one; else the VM stands still for as long
 * as it takes to copy what is there. In a VM that is started from it they are mounted as they were;
 * what it writes on them is its own and gone with it. The volume itself is not touched by it, and
 * need not be there any more.
 *
 * SM_EINVAL: the folder exists; SM_EUNSUPPORTED: the VM has folders of the host's; SM_EIO,
 * SM_ENOTFOUND, SM_ENOSPC: it cannot be written, or a disk not be read; SM_EGUEST, SM_EINTR,
 * SM_EENGINE: the VM has ended; SM_ETIMEDOUT; SM_ENOMEM.
 */
int sm_vm_snapshot(sm_vm *vm, const char *folder, struct sm_snapshot_info *info,
                   struct sm_error *err);

/*
 * An image that is a running VM as it is now, in memory and in unnamed files of the store: each
 * sm_vm_start of it, and each VM of a pool of it, goes on from there. What is said of
 * sm_vm_snapshot holds here; nothing is to be removed afterwards, not even after a kill. info may
 * be NULL. Errors as of sm_vm_snapshot; SM_ENOTFOUND also: a layer of its image is no longer in the
 * store.
 */
int sm_image_from_vm(sm_vm *vm, sm_image **out, struct sm_snapshot_info *info,
                     struct sm_error *err);

/*
 * n clones of a running VM, in clones[0] to clones[n - 1]: it stands still once, for as long as
 * info says, and goes on. Each clone has its own random numbers, host name and machine id, and the
 * right time, before anything runs in it. Processes in the background go on in each; commands that
 * run in the VM end in the clones, and connections into it are reset there. Disks are its own, too,
 * and gone with it, as of sm_vm_snapshot. The clones are VMs like any other, and may be forked; the
 * VM may be freed before them. config: as of sm_vm_start for a snapshot, for each of them, or NULL.
 * They start at once, as many as the host has processors. All of them start, or none. Errors as of
 * sm_image_from_vm and sm_vm_start.
 */
int sm_vm_fork(sm_vm *vm, const struct sm_vm_config *config, uint32_t n, sm_vm **clones,
               struct sm_snapshot_info *info, struct sm_error *err);

/*
 * Hand an image that is a snapshot, of a folder or a VM, to another process with the same store,
 * through a connected Unix socket (SOCK_STREAM or SOCK_SEQPACKET): one message, with descriptors.
 * sm_image_receive blocks until it is there, and believes the other process about memory; it checks
 * the rest as sm_image_from_snapshot does. Both keep their own image.
 * SM_EINVAL: it is no snapshot; SM_ECORRUPT: what came is none; SM_EIO; SM_ENOMEM; SM_ENOTFOUND,
 * SM_EUNSUPPORTED: as of sm_image_from_snapshot.
 */
int sm_image_send(const sm_image *image, int socket, struct sm_error *err);
int sm_image_receive(sm_store *store, int socket, sm_image **out, struct sm_error *err);

/* --- Ending, and state --- */

/* End it at once, if it still runs, and free it. No call may be under way on it or its execs. */
void sm_vm_free(sm_vm *vm);

/* End it at once; calls under way on it return SM_EINTR. Any thread. */
void sm_vm_stop(sm_vm *vm);

/*
 * End it in good order: SIGTERM to all its processes, SIGKILL after grace_ms (at most 60000) to
 * those that are left, volumes written and unmounted, power off. Returns when it has ended, or had
 * already. SM_EGUEST: the guest does not answer, or refuses; SM_ETIMEDOUT: it takes more than a
 * minute besides. It then still runs. Any thread.
 */
int sm_vm_shutdown(sm_vm *vm, uint32_t grace_ms, struct sm_error *err);

/* Wait until it has ended, whatever ended it, for timeout_ms (-1: no limit). Any thread.
 * SM_ETIMEDOUT: it still runs. */
int sm_vm_wait(sm_vm *vm, int timeout_ms, struct sm_error *err);

enum sm_vm_state {
    SM_VM_RUNNING = 0,
    SM_VM_STOPPED = 1, /* sm_vm_stop */
    SM_VM_POWERED_OFF = 2,
    SM_VM_RESET = 3,    /* rebooted, or crashed so hard that a processor resets itself */
    SM_VM_PANICKED = 4, /* the guest kernel panicked */
    SM_VM_FAILED = 5,   /* the engine or a device failed, or the VM's process died */
};
enum sm_vm_state sm_vm_state(sm_vm *vm); /* any thread */

/* --- Commands in a VM --- */

typedef struct sm_exec sm_exec;

/* A file that is written into a VM. */
struct sm_staged_file {
    const char *path; /* in the guest; relative to the command's cwd */
    const void *data;
    size_t len;
    uint32_t mode; /* permission bits; 0: 0644 */
};

struct sm_exec_spec {
    size_t size;
    const char *const *argv; /* NULL-terminated, at least one; searched in the guest's PATH */
    const char *const *env;  /* NULL-terminated, on top of the image's: "NAME=value" sets, "NAME"
                                removes */
    const char *cwd;         /* NULL: the image's WorkingDir, else / ; created when missing */
    const char *user;        /* NAME|UID[:GROUP|GID] of the guest; NULL: the image's, else root */
    int tty;                 /* a terminal of rows x columns; stderr joins stdout then */
    uint16_t rows, columns;
    int stdin_fd;  /* borrowed; -1: none, the command sees an empty file */
    int stdout_fd; /* borrowed; -1: drop it */
    int stderr_fd;
    /* Written as the user before the command starts, up to 256, which together with arguments and
     * environment may have 4 MiB (sm_vm_write_file has no limit). Missing folders are created. */
    const struct sm_staged_file *files;
    size_t n_files;
    /* NULL, or a NULL-terminated list of up to 64 more argv. Each runs after the one before ended
     * with 0, as `a && b` in a shell, with the same streams. The outcome's end is that of the last
     * one that ran; its times and memory are of all. */
    const char *const *const *then;
};
#define SM_EXEC_SPEC_INIT                                                                          \
    {                                                                                              \
        .size = sizeof(struct sm_exec_spec), .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1      \
    }

/* How a command ended. */
struct sm_outcome {
    int code;    /* as a shell says it: 0..255, 128 + n after signal n; when it could not be
                    started: 127 not found, 126 not executable, 125 anything else */
    int started; /* 0: it could not be started */
    int signal;  /* that ended it, or 0 */
    /* From its start to its end; processor time and the most memory of it and the children that it
     * waited for. As the guest says. */
    uint64_t wall_ns, user_ns, system_ns, peak_rss_bytes;
};

/* Prepare a command; any number may run in a VM. It starts, and its streams move, while a thread is
 * in sm_exec_wait. SM_EINVAL: no argv, or more than the guest takes; SM_EGUEST; SM_ENOMEM; SM_EIO.
 */
int sm_exec_start(sm_vm *vm, const struct sm_exec_spec *spec, sm_exec **out, struct sm_error *err);

/*
 * Run until the command has ended and all its output is written, or for timeout_ms (-1: no limit).
 * SM_ETIMEDOUT: nothing is lost, call again to go on. SM_ENOTFOUND, SM_EINVAL, SM_EGUEST with
 * outcome->code set and !started: it could not be started. SM_EGUEST with code 0: the guest ended,
 * see sm_vm_state. SM_EINTR: sm_vm_stop. SM_EIO, SM_ENOSPC: its output cannot be written.
 */
int sm_exec_wait(sm_exec *exec, int timeout_ms, struct sm_outcome *outcome, struct sm_error *err);

/* Before, during or after sm_exec_wait. Any thread, and signal handlers. */
void sm_exec_signal(sm_exec *exec, int signal); /* to the command's process */
void sm_exec_resize(sm_exec *exec, uint16_t rows, uint16_t columns);

void sm_exec_free(sm_exec *exec); /* kills the command if it runs */

/* What a command wrote. */
struct sm_output {
    struct sm_outcome outcome;
    char *out, *err; /* each with a NUL after its end; freed with sm_free */
    size_t out_len, err_len;
};
/*
 * Run a command and collect what it writes, each stream at most max_bytes (SM_ENOMEM beyond; 0: 64
 * MiB) and within timeout_ms (-1: no limit). spec's stdout_fd and stderr_fd are not used. Errors as
 * of sm_exec_start and sm_exec_wait; *output is empty then.
 */
int sm_exec_output(sm_vm *vm, const struct sm_exec_spec *spec, size_t max_bytes, int timeout_ms,
                   struct sm_output *output, struct sm_error *err);
void sm_output_fini(struct sm_output *output); /* frees out and err; a zeroed one is fine */

/* --- Files in and out --- */

struct sm_file_spec {
    size_t size;
    const char *path; /* in the guest, from its root */
    const char *user; /* whose rights count, and who owns a new file: as in sm_exec_spec, but NULL
                         is root */
    int fd; /* borrowed: contents come from there up to its end, or go there; -1: memory */
    /* Writing: */
    uint32_t mode;    /* permission bits; 0: 0644 */
    const void *data; /* the contents, with fd -1 */
    size_t len;
    /* Reading: */
    size_t max_bytes; /* with fd -1: SM_ENOMEM if there are more; 0: 64 MiB */
};
#define SM_FILE_SPEC_INIT                                                                          \
    {                                                                                              \
        .size = sizeof(struct sm_file_spec), .fd = -1                                              \
    }

/*
 * Write a file in the guest within timeout_ms (-1: no limit). It appears under its name when it is
 * complete, in place of what was there; after an error what was there is unchanged. Missing folders
 * are created. (A device or pipe is written to as it is, and so is a file in a folder where the
 * user may create none.) Any size; any number at once in a VM, each call by a thread of its own.
 *
 * SM_EINVAL: no path, no such user, it is a folder, or the user may not write it; SM_ENOTFOUND: a
 * part of the path is no folder; SM_ENOSPC: the guest's memory is full; SM_ETIMEDOUT; SM_EGUEST;
 * SM_EINTR: sm_vm_stop; SM_ENOMEM; SM_EIO.
 */
int sm_vm_write_file(sm_vm *vm, const struct sm_file_spec *spec, int timeout_ms,
                     struct sm_error *err);

/* What was read. */
struct sm_file {
    char *data; /* with fd -1: the contents and a NUL after them; freed with sm_free */
    size_t len;
    uint32_t mode; /* permission bits of the file */
};
/*
 * Read a file of the guest, which may be as hostile as all that comes from there: any bytes, and
 * with fd any number of them. Threads and errors as of sm_vm_write_file; SM_ENOTFOUND: no such
 * file; SM_ENOSPC also: fd's disk is full. After an error *out is zero, and fd may have got a part.
 */
int sm_vm_read_file(sm_vm *vm, const struct sm_file_spec *spec, int timeout_ms, struct sm_file *out,
                    struct sm_error *err);

/* --- Connections into a VM --- */

/*
 * Connect to a TCP port on the guest's loopback interface (a server that listens on any address is
 * there, too), through the agent: no network is needed. *fd: a connected, blocking stream socket,
 * close-on-exec, which the caller owns and closes; bytes and ends of both directions (shutdown(2))
 * are the guest's, as hostile as all that comes from there. It ends with the VM. Blocks up to
 * timeout_ms (-1: no limit). Any thread.
 *
 * SM_EINVAL: port 0; SM_ENOTFOUND: nobody listens there; SM_ETIMEDOUT; SM_EGUEST: the guest ended,
 * or broke the protocol; SM_EINTR: sm_vm_stop; SM_EIO.
 */
int sm_vm_connect(sm_vm *vm, uint16_t port, int timeout_ms, int *fd, struct sm_error *err);

/* --- Pools: VMs that are ready before they are wanted --- */

typedef struct sm_pool sm_pool;

/* What happens to a VM that sm_pool_release gives back. */
enum sm_pool_release {
    SM_POOL_RENEW = 0, /* it is freed, and a new one started in the background */
    SM_POOL_KEEP = 1,  /* the next user gets it as it is: with the files and processes left in it */
};

#define SM_FOREVER UINT32_MAX

struct sm_pool_config {
    size_t size;
    const struct sm_vm_config *vm; /* the machine; NULL: all defaults. Its console function is
                                      called for all VMs of the pool, by several threads at once.
                                      No volumes: a VM would have them for itself */
    uint32_t min;                  /* VMs that the pool has at least, in use or ready */
    uint32_t max;        /* VMs that it has at most, those being started or ended included, up to
                            4096; 0: 16, or min if that is more */
    uint32_t idle_ms;    /* one above min that was not wanted for so long is freed; 0: 60000 */
    uint32_t acquire_ms; /* the longest wait of sm_pool_acquire; 0: 30000. SM_FOREVER: no limit,
                            here and for idle_ms */
    uint32_t starts_max; /* VMs being started at once, up to 64; 0: one per host processor. Until a
                            first one has started there is just that one */
    uint32_t on_release; /* enum sm_pool_release */
};
#define SM_POOL_CONFIG_INIT                                                                        \
    {                                                                                              \
        .size = sizeof(struct sm_pool_config)                                                      \
    }

/*
 * A pool of running VMs of one image, each started as by sm_vm_start: from a snapshot but for the
 * very first. With min > 0 this returns when one is ready; the others follow in the background.
 * Then VMs are started as they are wanted. image must stay until the pool is freed, and may be used
 * for sm_vm_start meanwhile. config may be NULL. Starts starts_max threads.
 *
 * SM_EINVAL: a value of config is out of range; SM_ENOMEM; SM_EIO: no thread; with min > 0 also as
 * sm_vm_start.
 */
int sm_pool_new(sm_image *image, const struct sm_pool_config *config, sm_pool **out,
                struct sm_error *err);

/*
 * A running VM for the caller alone, until sm_pool_release; first come, first served. Any thread.
 *
 * A start that fails is repeated after 100 ms, then after twice as long, up to 10 s, while an
 * acquire may yet get a VM that is in use or being started elsewhere. Where there is none, each
 * waiting acquire gets the error at once, and the next acquire causes the next try.
 *
 * SM_ETIMEDOUT: none came free within acquire_ms; SM_EINTR: sm_pool_free; else as sm_vm_start.
 */
int sm_pool_acquire(sm_pool *pool, sm_vm **out, struct sm_error *err);

/* Give a VM back, whose state may be any. Its execs must be freed before; the caller must not use
 * it any more, nor free it. Returns without waiting for its end. NULL is fine. Any thread.
 * SM_EINVAL: it is not in use from this pool. */
int sm_pool_release(sm_pool *pool, sm_vm *vm, struct sm_error *err);

struct sm_pool_stats {
    uint32_t ready, used, starting; /* VMs, now */
    uint32_t waiting;               /* calls of sm_pool_acquire, now */
    uint64_t acquired;              /* calls of sm_pool_acquire that got one */
    uint64_t started, failed;       /* starts that succeeded and that did not */
    uint64_t expired;               /* freed after idle_ms */
};
void sm_pool_stats(sm_pool *pool, struct sm_pool_stats *out); /* any thread */

/* End and free all its VMs, those in use too (no call may be under way on one), once those being
 * started are; then the pool. Calls of sm_pool_acquire under way return SM_EINTR. */
void sm_pool_free(sm_pool *pool);

#ifdef __cplusplus
}
#endif
#endif
