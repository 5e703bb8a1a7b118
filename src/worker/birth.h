/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SM_WORKER_BIRTH_H
#define SM_WORKER_BIRTH_H

/*
 * Start a program: as the first process of a PID namespace of its own, where the host offers that
 * (it then can neither name nor signal any other), else beside the caller's processes. It gets argv
 * and env, copies of n files from the descriptor first on, the lowest three of quiet on /dev/null
 * and the others as they are, no other descriptor, a session of its own, and every signal unblocked
 * and at its default. files must all lie beyond first + n. Any thread. 0 and *pid, or an errno.
 */
int birth(char *const *argv, char *const *env, const int *files, unsigned n, int first, int quiet,
          int *pid);

#endif
