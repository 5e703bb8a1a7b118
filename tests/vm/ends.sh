#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# ends.sh BOOT_TOOL KERNEL INITRAMFS INIT: the stock kernel on the soft engine, through the VM. Every way in
# which a guest can end is told apart; the agent calls with more layers than there are interrupt pins,
# and with memory on both sides of the 4 GiB hole.
set -eu
boot=$1 kernel=$2 initramfs=$3 init=$4
for tool in cpio mkfs.erofs; do
    command -v "$tool" >/dev/null || { echo "SKIP: no $tool"; exit 77; }
done
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM

mkdir -p "$dir/tree/dev"
cp "$init" "$dir/tree/init"
(cd "$dir/tree" && find . | cpio -o -H newc --quiet) >"$dir/ends.cpio"
mkdir -p "$dir/root/bin" "$dir/root/tmp"
cp "$init" "$dir/root/bin/init"
mkfs.erofs "$dir/layer" "$dir/root" >/dev/null 2>&1

failed=0
# check NAME TEXT OPTION...: boot_tool's output has TEXT.
check() {
    name=$1 text=$2
    shift 2
    "$boot" --timeout 120 "$@" >"$dir/out" 2>&1 || true
    if grep -aq -- "$text" "$dir/out"; then
        echo "ok: $name ($(grep -ao 'ran [0-9.]* s' "$dir/out"))"
    else
        echo "FAILED: $name: no '$text' in:"
        cat "$dir/out"
        failed=1
    fi
}
check power-off 'end: power-off' --append ENDS=off "$kernel" "$dir/ends.cpio"
check reset 'end: reset' --append ENDS=reset "$kernel" "$dir/ends.cpio"
check 'init exits' 'end: panic' --append ENDS=exit "$kernel" "$dir/ends.cpio"
check 'no init' 'end: panic' --append rdinit=/none "$kernel" "$dir/ends.cpio"
check stop 'end: stopped' --append ENDS=hang --until ENDS=hang "$kernel" "$dir/ends.cpio"

layers=
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24; do
    layers="$layers $dir/layer"
done
check 'agent, 1 layer' 'the agent called' --agent "$kernel" "$initramfs" "$dir/layer"
# shellcheck disable=SC2086 # the list is meant to split
check 'agent, 24 layers' 'the agent called' --agent "$kernel" "$initramfs" $layers
check 'agent, 4 GiB' 'the agent called' --agent --memory 4096 "$kernel" "$initramfs" "$dir/layer"
check 'agent, least memory' 'the agent called' --agent --memory 96 "$kernel" "$initramfs" "$dir/layer"
exit $failed
