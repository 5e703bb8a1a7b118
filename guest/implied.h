/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attributes that span layers. A layer's directory without an entry of its own is marked by the
 * image converter (src/image/layer.h); overlayfs would show that one's made-up attributes, where
 * those of the next layer below that has an entry for it are meant. And the root of an overlay has
 * the attributes of the writable folder, not of any layer.
 */
#ifndef SM_GUEST_IMPLIED_H
#define SM_GUEST_IMPLIED_H

/*
 * The lowest layer that counts: the topmost whose root is opaque, else 0. Layer n is mounted on
 * "LAYERS/n".
 */
unsigned implied_first(const char *layers, unsigned count);

/*
 * Put it right in the overlay on merged of the layers first to count - 1: the directories concerned
 * are copied up. What cannot be changed is logged, and stays.
 */
void implied_restore(const char *layers, unsigned first, unsigned count, const char *merged);

#endif
