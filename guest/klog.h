/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's few words to the world: the kernel log, hence the console; stderr when it is not
 * PID 1. */
#ifndef SM_GUEST_KLOG_H
#define SM_GUEST_KLOG_H

/* One line, prefixed "supermachine-agent: ". Errors reach the console even of a quiet kernel. */
void klog_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void klog_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
