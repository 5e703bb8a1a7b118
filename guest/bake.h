/* SPDX-License-Identifier: Apache-2.0 */
/* Before a snapshot: a guest whose memory is mostly zeros. */
#ifndef SM_GUEST_BAKE_H
#define SM_GUEST_BAKE_H

/* Drop the caches, and fill nearly all free memory with zeros. Best effort: whatever fails only
 * makes the snapshot larger. */
void bake_make_small(void);

#endif
