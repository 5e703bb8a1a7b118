/* SPDX-License-Identifier: Apache-2.0 */
/* The commands as mdoc(7), for supermachine(1): `supermachine help --man`. */
#ifndef CLI_MAN_PAGE_H
#define CLI_MAN_PAGE_H

#include "cli.h"

void man_page_commands(const struct cmd *commands, size_t n);

#endif
