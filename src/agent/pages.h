/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Large buffers that live for a moment, such as a session's, as pages of their own: only what is
 * touched costs memory, and all of it is the host's again when they are freed. malloc would keep
 * them, once in each of its arenas.
 */
#ifndef SM_AGENT_PAGES_H
#define SM_AGENT_PAGES_H

#include <stddef.h>
#include <sys/mman.h>

/* Zeros; NULL when out of memory. Free with the same size. */
static inline void *pages_new(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* NULL is fine. */
static inline void pages_free(void *p, size_t bytes)
{
    if (p)
        munmap(p, bytes);
}

#endif
