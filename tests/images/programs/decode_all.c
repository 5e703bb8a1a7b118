// SPDX-License-Identifier: Apache-2.0
/* Our instruction decoder over standard input, byte by byte: how much is an instruction, and a
 * checksum. */
#include <stdio.h>

#include "cpu/soft/insn.h"

int main(void)
{
    static uint8_t bytes[4 << 20];
    size_t len = fread(bytes, 1, sizeof bytes - 15, stdin), valid = 0;
    uint64_t sum = 0;
    for (size_t i = 0; i < len; i++) {
        struct insn insn;
        if (insn_decode(bytes + i, 15, &insn) != 0)
            continue;
        valid++;
        sum = sum * 31 + insn.len * 256u + insn.opsize;
    }
    printf("%zu of %zu bytes begin an instruction, checksum %llx\n", valid, len,
           (unsigned long long)sum);
    return valid == 0;
}
