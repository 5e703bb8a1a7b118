#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# decode_kernel.sh DECODE_ZYDIS VMLINUZ: sweep the code of a bzImage's kernel. The payload is found by its
# compressor's magic, tried at every place where that occurs.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
unpack() { # MAGIC-REGEX COMMAND...
    magic=$1
    shift
    for at in $(LC_ALL=C grep -aboP "$magic" "$vmlinuz" | cut -d: -f1); do
        tail -c +$((at + 1)) "$vmlinuz" | "$@" >"$dir/vmlinux" 2>/dev/null || true # trailing bytes are an error
        if [ "$(head -c 4 "$dir/vmlinux" | tail -c 3)" = ELF ]; then
            return 0
        fi
    done
    return 1
}
tool=$1
vmlinuz=$2
[ -r "$vmlinuz" ] || { echo "SKIP: no kernel at $vmlinuz"; exit 77; }
unpack '\xfd7zXZ\x00' xz -dc || unpack '\x28\xb5\x2f\xfd' zstd -dcq || unpack '\x1f\x8b\x08' gzip -dcq ||
    { echo "SKIP: cannot find an xz, zstd or gzip payload in $vmlinuz"; exit 77; }
"$tool" text "$dir/vmlinux"
