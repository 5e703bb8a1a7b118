/* SPDX-License-Identifier: Apache-2.0 */
/* sm.selftest=1: what a boot test under another monitor, without vsock, can see of the guest. */
#ifndef SM_GUEST_SELFTEST_H
#define SM_GUEST_SELFTEST_H

#include <stdbool.h>

/* Prints the mounts, the start-up files and the modules to the console, ending in "selftest done".
 */
void selftest_print(unsigned layers);

/* Starts /selftest-driver of the image, which then expects to be served. False if there is none. */
bool selftest_drive(void);

#endif
