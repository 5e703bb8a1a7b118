#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# x86_selftests.sh CACHE OUT: Linux's own x86 and breakpoint selftests, of the guest kernel's version, from Debian's
# linux-source package, as static 64-bit programs in OUT. CACHE keeps the unpacked sources.
set -eu
cache=$(mkdir -p "$1" && cd "$1" && pwd -P) out=$2
package=linux-source-6.1
# amx is left out: no CPU model has it.
tests="check_initial_reg_state corrupt_xstate_header fsgsbase fsgsbase_restore ioperm iopl ldt_gdt mov_ss_trap
  ptrace_syscall sigaltstack sigreturn sigtrap_loop single_step_syscall syscall_arg_fault syscall_nt syscall_numbering
  sysret_rip sysret_ss_attrs test_mremap_vdso test_vsyscall"

exec 9>"$cache/.selftests.lock"
flock 9
if [ ! -d "$cache/$package/arch" ]; then
    temp=$cache/.selftests.$$
    trap 'rm -rf "$temp"' EXIT
    mkdir "$temp"
    (cd "$temp" && apt-get download -q $package >/dev/null 2>&1) ||
        { echo "SKIP: cannot download $package"; exit 77; }
    dpkg-deb -x "$temp"/*.deb "$temp/deb"
    tar -xf "$temp/deb/usr/src/$package.tar.xz" -C "$temp" "$package/tools/testing/selftests" "$package/include/uapi" \
        "$package/arch/x86/include"
    rm -rf "${cache:?}/$package"
    mv "$temp/$package" "$cache/$package"
fi
mkdir -p "$out"
cd "$cache/$package/tools/testing/selftests/x86"
for name in $tests; do
    extra=
    case $name in
    sysret_ss_attrs) extra=thunks.S ;;
    check_initial_reg_state) extra=-Wl,-ereal_start ;;
    esac
    # shellcheck disable=SC2086 # none or one
    cc -static -no-pie -O2 -g -std=gnu99 -pthread -w -I.. "$name.c" $extra -o "$out/$name"
done
cd ../breakpoints
# Without -O2, as upstream: it shares plain variables with its tracer.
cc -static -no-pie -g -std=gnu99 -w breakpoint_test.c -o "$out/breakpoint_test"
