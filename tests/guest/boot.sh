#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Boot the guest kernel and the agent under QEMU with two EROFS layers on virtio-pmem, and look at what
# sm.selftest=1 prints: boot.sh AGENT KERNEL_DIR BUILD_INITRAMFS
# DRIVER. Then DRIVER (guest/selftest_driver.c) plays the host inside it. Needs neither KVM nor root.
set -eu
agent=$1 kernel=$2 build=$3 driver=$4

for tool in qemu-system-x86_64 mkfs.erofs timeout; do
    command -v $tool >/dev/null || {
        echo "SKIP: no $tool"
        exit 77
    }
done
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT INT TERM

# The lower layer tries what a hostile image may: links and files where mount points belong.
mkdir -p "$dir/0/bin" "$dir/0/only-lower" "$dir/1/etc"
cp /bin/busybox "$dir/0/bin/"
for applet in $(/bin/busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "$dir/0/bin/$applet"
done
cp "$driver" "$dir/1/selftest-driver"
echo content >"$dir/0/only-lower/file"
printf 'root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n' >"$dir/1/etc/passwd"
printf 'root:x:0:\ndisk:x:6:app\n' >"$dir/1/etc/group"
echo lower >"$dir/0/selftest"
ln -s /nowhere "$dir/0/dev"
echo file >"$dir/0/sys"
echo upper >"$dir/1/selftest"
mkfifo "$dir/1/etc/hostname"
ln -s /dev/null "$dir/1/etc/hosts"
set --
for n in 0 1; do
    mkfs.erofs --quiet "$dir/$n.erofs" "$dir/$n" >/dev/null
    truncate -s 4M "$dir/$n.erofs"
    set -- "$@" -object "memory-backend-file,id=m$n,mem-path=$dir/$n.erofs,size=4M,share=on" \
        -device "virtio-pmem-pci,memdev=m$n,id=p$n"
done
EXTRA_MODULES='virtio_pci:- vsock_loopback:-' "$build" "$agent" "$kernel/modules" "$dir/initramfs.cpio"

boot() { # layers, devices...
    layers=$1
    shift
    timeout 100 qemu-system-x86_64 -M q35 -cpu max -accel tcg -m 512,slots=4,maxmem=2G -nodefaults \
        -no-reboot -display none -serial "file:$dir/console" -kernel "$kernel/vmlinuz" \
        -initrd "$dir/initramfs.cpio" -device virtio-rng-pci \
        -append "console=ttyS0 panic=-1 sm.selftest=1 sm.layers=$layers" "$@" ||
        { cat "$dir/console"; echo "FAIL: QEMU did not end well"; exit 1; }
    tr -d '\r' <"$dir/console" >"$dir/log"
}
expect() {
    grep -q "$1" "$dir/log" || {
        cat "$dir/log"
        echo "FAIL: not on the console: $1"
        exit 1
    }
}

boot 2 "$@"
expect '^selftest: kernel .* host supermachine layers 2$'
expect '^selftest: mount overlay / overlay rw.*lowerdir=1:0,upperdir=/u/upper'
expect '^selftest: mount proc /proc proc '
expect '^selftest: mount sysfs /sys sysfs '
expect '^selftest: mount devtmpfs /dev devtmpfs '
expect '^selftest: mount devpts /dev/pts devpts .*ptmxmode=666'
expect '^selftest: mount tmpfs /dev/shm tmpfs '
expect '^selftest: file upper$'
expect '^selftest: hosts 127.0.1.1.supermachine$'
expect '^selftest: module erofs '
expect '^selftest: module virtio_rng '
expect '^selftest: init hidden$'
expect '^selftest: exec /bin/true 0$'
expect '^selftest done$'
expect 'erofs: DAX enabled'
expect '^driver: ok shutdown'
if grep '^driver: FAILED' "$dir/log"; then
    echo "FAIL: in the guest"
    exit 1
fi
expect 'reboot: Power down'
if grep -q 'no DAX' "$dir/log"; then
    echo "FAIL: DAX was refused"
    exit 1
fi
boot 0
expect '^selftest: mount tmpfs / tmpfs rw'
expect '^selftest done$'

# A layer that is no EROFS: a clear reason, and the machine goes off.
head -c 4194304 /dev/urandom >"$dir/0.erofs"
boot 1 "$@"
expect 'supermachine-agent: cannot start: layer 0: cannot mount /dev/pmem0 as erofs: Invalid argument'
expect 'reboot: Power down'
echo "PASS"
