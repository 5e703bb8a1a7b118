/* SPDX-License-Identifier: Apache-2.0 */
/* struct sockaddr_vm of <linux/vm_sockets.h>, which musl's include path does not have (vsock(7)).
 */
#ifndef SM_GUEST_VSOCK_ADDR_H
#define SM_GUEST_VSOCK_ADDR_H

#include <sys/socket.h>

#define VSOCK_CID_LOCAL 1u
#define VSOCK_CID_HOST 2u
#define VSOCK_CID_ANY 0xffffffffu

struct vsock_addr {
    sa_family_t family; /* AF_VSOCK */
    unsigned short zero1;
    unsigned int port;
    unsigned int cid;
    unsigned char zero2[4];
};
_Static_assert(sizeof(struct vsock_addr) == sizeof(struct sockaddr), "as the kernel has it");

#endif
