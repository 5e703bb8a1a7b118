/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libsupermachine: run OCI images as microVMs.
 *
 * What the library does to your process: it starts threads (one per vCPU and one for devices, per VM)
 * and maps memory. It installs no signal handler, never prints, never exits, and never touches the
 * working directory, umask, locale or environment.
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
 * Why a call failed. Filled by every function that takes one, when it returns non-zero; may be NULL.
 * The text is one line without a newline: what failed, on what, why, and what to do.
 */
struct sm_error {
    int code;     /* enum sm_status */
    int os_errno; /* errno of the host call that failed, or 0 */
    char text[512];
};

#ifdef __cplusplus
}
#endif
#endif
