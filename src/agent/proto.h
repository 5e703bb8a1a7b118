/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wire protocol between the host and the guest agent, version 3.
 *
 * Transport: vsock streams. The agent listens on guest port PROTO_PORT. When the root is mounted
 * and it listens, it connects once to host CID 2, port PROTO_PORT (the beacon), sends HELLO, or
 * HELLO and ERROR when the guest could not start, and closes. After that close the agent holds no
 * connection: the moment to snapshot. Everything else is host-initiated, one connection per exec
 * session, and one for control.
 *
 * Frame: 8 bytes of header, then `length` bytes of payload; all integers little-endian.
 *     0  u32 length (<= PROTO_PAYLOAD_MAX)   4  u8 type   5  u8 stream   6  u16 flags
 * stream is 0 unless the type says otherwise; flags are 0 but for PROTO_MORE on EXEC. A peer that
 * receives anything not allowed here drops the connection; it never resynchronises.
 *
 * Both sides send HELLO first; neither waits for the other's. An exec session, then:
 *     host   EXEC [EXEC ...]  { DATA 0 | EOF 0 | EOF 1,2 | CREDIT 1,2 | SIGNAL | RESIZE }
 *     guest  STARTED  { DATA 1,2 | EOF 1,2 | CREDIT 0 | EOF 0 }  EXIT        or  ERROR instead of
 * STARTED. A connection to a port of the guest: CONNECT, answered by OK or ERROR; after OK there
 * are no frames, but the bytes of both sides as they are, each with its own end. A control
 * connection: any number of SETUP, BAKE, PING, SHUTDOWN, each answered by OK or ERROR in turn. The
 * guest closes after EXIT or ERROR. The host never half-closes: its end of file means that it is
 * gone, and the agent kills the session's processes.
 *
 * Flow control: each stream starts with PROTO_WINDOW bytes of credit; DATA spends it, CREDIT gives
 * back what the receiver has passed on. Credit never exceeds PROTO_WINDOW, so that is all a
 * receiver ever buffers. EOF from the sender of a stream: no more DATA. EOF from its receiver: the
 * reader is gone; the sender stops (a DATA already on its way is discarded).
 *
 * With PROTO_EXEC_TTY there is no stream 2. EXIT comes after the guest's EOF of every output
 * stream.
 */
#ifndef SM_AGENT_PROTO_H
#define SM_AGENT_PROTO_H

#include <stdint.h>

#define PROTO_VERSION 3u
#define PROTO_MAGIC 0x67416d53u /* "SmAg" */
#define PROTO_PORT 1024u

#define PROTO_HEADER_SIZE 8u
#define PROTO_PAYLOAD_MAX 65536u
#define PROTO_WINDOW (256u * 1024u)     /* bytes of credit per stream and direction */
#define PROTO_EXEC_MAX (4u << 20)       /* bytes of EXEC over all its frames */
#define PROTO_EXEC_STRINGS (256u << 10) /* argv and env items together */
#define PROTO_EXEC_CHAIN 64u            /* commands after the first */
#define PROTO_EXEC_FILES 256u
#define PROTO_TEXT_MAX 1024u   /* bytes of an ERROR's text */
#define PROTO_ENTROPY_MAX 512u /* bytes of a SETUP's entropy */
#define PROTO_HOSTNAME_MAX 64u
#define PROTO_MACHINE_ID_LEN 32u
#define PROTO_GRACE_MAX_MS 60000u

#define PROTO_MORE 1u /* header flag: the payload goes on in the next EXEC frame */

enum proto_stream { PROTO_STDIN = 0, PROTO_STDOUT = 1, PROTO_STDERR = 2, PROTO_STREAMS };

enum proto_type {
    PROTO_HELLO = 1,   /* both: u32 magic, u32 version */
    PROTO_EXEC = 2,    /* host: see below */
    PROTO_STARTED = 3, /* guest: u32 pid */
    PROTO_DATA = 4,    /* both: 1.. bytes of a stream */
    PROTO_EOF = 5,     /* both: empty */
    PROTO_CREDIT = 6,  /* both: u32 bytes of credit, > 0 */
    PROTO_SIGNAL = 7,  /* host: u32 signal 1..64, u32 PROTO_SIGNAL_* */
    PROTO_RESIZE = 8,  /* host: u16 rows, u16 columns */
    PROTO_EXIT = 9,    /* guest: see below */
    PROTO_ERROR = 10,  /* guest: u32 enum proto_error, u32 Linux errno or 0, text (UTF-8, no NUL) */
    PROTO_SETUP = 11,  /* host: items, see enum proto_item */
    PROTO_SHUTDOWN = 12, /* host: u32 milliseconds from SIGTERM to SIGKILL; OK, then power-off */
    PROTO_PING = 13,     /* host: empty */
    PROTO_OK = 14,       /* guest: empty */
    PROTO_BAKE = 15,     /* host: empty; make the guest small: drop caches, zero free memory */
    PROTO_CONNECT = 16,  /* host: u16 port (not 0), u16 zero: TCP on the guest's loopback */
    PROTO_TYPES
};

/*
 * EXEC payload (fragments joined): u32 PROTO_EXEC_* flags, u16 rows, u16 columns, u32 argc, u32
 * envc, u16 commands, u16 files; then NUL-terminated strings: argv, env ("NAME=value"), cwd ("" is
 * "/"), user ("" is root; NAME, UID, NAME:GROUP, UID:GID ... as Docker's --user); then each further
 * command: u32 argc, its strings; then each file: u32 mode, u32 length, NUL-terminated path, length
 * bytes. Nothing may follow. argc is at least 1.
 *
 * The files are written first, as the user and from the working directory. Then the commands run
 * one after the other, each only if the one before ended with 0; EXIT says how the last that ran
 * ended, and what all of them used.
 *
 * WRITE and READ are no command: argc is 0, there are no further commands and one file of length 0.
 * WRITE (with STDIN): its contents are stream 0, and it takes its name when that has ended; a
 * session that ends before leaves nothing. READ: stream 1 is its contents, stream 2 its permission
 * bits in octal and a newline. EXIT's code is 0 or a Linux errno.
 */
#define PROTO_EXEC_FIXED 20u
#define PROTO_EXEC_STDIN 1u /* stream 0 is used; otherwise stdin is /dev/null */
#define PROTO_EXEC_TTY 2u   /* a pseudo-terminal on stdin, stdout and stderr */
#define PROTO_EXEC_MKCWD 4u /* create cwd if it is missing, as Docker does for WorkingDir */
#define PROTO_EXEC_WRITE 8u
#define PROTO_EXEC_READ 16u
#define PROTO_EXEC_FLAGS 31u
#define PROTO_MODE_MAX 07777u

#define PROTO_SIGNAL_ALL                                                                           \
    1u /* every process of the session, not only the first (with a tty: its group) */

/*
 * EXIT payload: u32 code (0..255; 128+n after signal n), u32 signal (0 if it exited), u32
 * PROTO_EXIT_*, u32 zero, u64 wall time ns, u64 user CPU ns, u64 system CPU ns, u64 peak RSS bytes.
 */
#define PROTO_EXIT_SIZE 48u
#define PROTO_EXIT_CORE 1u

/* Why a request failed. The shell's codes: 127 for NOT_FOUND, 126 for NOT_EXECUTABLE, 125 for
 * others. */
enum proto_error {
    PROTO_ERR_INTERNAL = 1,
    PROTO_ERR_PROTOCOL = 2, /* the host broke this protocol */
    PROTO_ERR_VERSION = 3,
    PROTO_ERR_NOT_FOUND = 4,
    PROTO_ERR_NOT_EXECUTABLE = 5,
    PROTO_ERR_USER = 6,
    PROTO_ERR_CWD = 7,
    PROTO_ERR_RESOURCE = 8, /* out of memory, processes, terminals, argument space */
    PROTO_ERR_BOOT = 9,     /* in the beacon: the guest could not start */
    PROTO_ERR_VOLUME = 10,  /* a volume cannot be mounted */
    PROTO_ERR_FILE = 11,    /* a file cannot be written or read */
    PROTO_ERR_CONNECT = 12, /* nobody listens on the port */
    PROTO_ERR_END
};

/*
 * After a start the host sends SETUP before anything else, and after a restore it must: entropy,
 * clock and identity are then a machine's of its own (restored guests began as copies).
 *
 * SETUP is a sequence of items: u16 key, u16 zero, u32 length, bytes. Each at most once, in any
 * order.
 */
#define PROTO_ITEM_SIZE 8u
enum proto_item {
    PROTO_ITEM_HOSTNAME = 1,    /* sethostname, /etc/hostname, /etc/hosts */
    PROTO_ITEM_RESOLV_CONF = 2, /* text of /etc/resolv.conf */
    PROTO_ITEM_HOSTS = 3,       /* lines appended to /etc/hosts */
    PROTO_ITEM_CLOCK = 4,       /* u64 nanoseconds since 1970 */
    PROTO_ITEM_ENTROPY = 5,     /* credited to the kernel's pool, which is then reseeded */
    PROTO_ITEM_MACHINE_ID = 6,  /* 32 hex digits for /etc/machine-id, if the image has none */
    PROTO_ITEM_VOLUMES = 7,     /* what to mount where, see below */
    PROTO_ITEM_END
};

/*
 * VOLUMES is a sequence of: u8 PROTO_VOLUME_*, then an absolute path with its NUL. The n-th (from
 * 0) is the ext4 file system on the virtio-blk disk whose id is "smN"; with FOLDER it is the
 * virtio-fs device with that tag. It is mounted there, folders being made as needed, and unmounted
 * by SHUTDOWN. A disk that is empty and writable takes owner and mode of the folder that it covers.
 */
#define PROTO_VOLUME_READ_ONLY 1u
#define PROTO_VOLUME_FOLDER 2u
#define PROTO_VOLUME_FLAGS 3u
#define PROTO_VOLUMES_MAX 16u
#define PROTO_VOLUME_PATH_MAX 1023u /* bytes without the NUL */

#endif
