/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's side of the control socket. */
#ifndef SM_WORKER_SERVE_H
#define SM_WORKER_SERVE_H

#include "vm/vm.h"

/* All of these end the process when the owner is gone: then nobody wants the VM any more. */

/* code 0: the agent serves. Any thread. */
void serve_ready(unsigned jail, int code, const struct sm_error *err);
/* A vm_config's console. Any thread. */
void serve_console(void *opaque, const uint8_t *data, size_t len);
/* An engine_debug's text. Any thread. */
void serve_debug(void *opaque, const char *text, size_t len);
/* A vm_config's warning. Any thread. */
void serve_warning(void *opaque, const char *text);
/* Answer the owner until the VM or the owner ends; then end the process. */
_Noreturn void serve(struct vm *vm);

#endif
