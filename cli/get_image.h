/* SPDX-License-Identifier: Apache-2.0 */
/* The image that a command is to start VMs from. */
#ifndef CLI_GET_IMAGE_H
#define CLI_GET_IMAGE_H

#include <supermachine.h>

#include "signals.h"

/* A snapshot, else the store's image, else the registry's, whose progress is shown. A signal that
 * asks to end makes it SM_EINTR (signals_stop_pull). As of sm_image_pull. */
int get_image(sm_store *store, const char *ref, const char *const *insecure,
              struct signals *signals, sm_image **out, struct sm_error *err);

#endif
