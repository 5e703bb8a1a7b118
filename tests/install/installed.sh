#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# installed.sh BUILD EXAMPLE CHECK-EXPORTS: `meson install` into an empty root, then, knowing only that root: compile the
# example by pkg-config, run it and the program.
set -eu
build=$1 example=$2 exports=$3
for tool in meson pkg-config cc; do
    command -v "$tool" >/dev/null || { echo "SKIP: no $tool"; exit 77; }
done
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
trap 'exit 130' INT TERM
fail() {
    echo "FAILED: $*" >&2
    exit 1
}

DESTDIR=$root meson install -C "$build" --no-rebuild --quiet
pc=$(find "$root" -name supermachine.pc)
[ -n "$pc" ] || fail "no supermachine.pc"
lib=${pc%/pkgconfig/*}
prefix=$(dirname "$(dirname "$(find "$root" -path '*/include/supermachine.h')")")
export PKG_CONFIG_PATH="${pc%/*}" PKG_CONFIG_SYSROOT_DIR="$root" SUPERMACHINE_HOME="$root/home"

version=$(pkg-config --modversion supermachine)
[ "$("$prefix/bin/supermachine" version)" = "supermachine $version" ] || fail "the versions differ"
# Warnings are errors: the header must be clean for those who include it. The data is found from the
# program's place, as a file root is not where the prefix says.
# shellcheck disable=SC2046 # the flags are meant to split
cc -std=c11 -Wall -Wextra -Wpedantic -Werror "$example" $(pkg-config --cflags --libs supermachine) \
    -o "$prefix/bin/example"
# The static library shows no other name than the shared one, and is enough.
"$exports" "$lib/libsupermachine.a" "$prefix/include/supermachine.h" >/dev/null || fail "names in the static library"
# shellcheck disable=SC2046
cc -std=c11 "$example" $(pkg-config --cflags supermachine) "$lib/libsupermachine.a" \
    $(pkg-config --static --libs-only-l --libs-only-other supermachine | sed 's/-lsupermachine //') -o "$prefix/bin/static-example"
bash -c "source '$prefix/share/bash-completion/completions/supermachine.bash' && complete -p supermachine" >/dev/null ||
    fail "no completion for bash"
for page in man1/supermachine.1 man3/libsupermachine.3; do
    [ -s "$prefix/share/man/$page" ] || fail "no $page"
done
[ "$(head -n 1 "$prefix/share/zsh/site-functions/_supermachine")" = "#compdef supermachine" ] ||
    fail "no completion for zsh"
LD_LIBRARY_PATH=$lib "$prefix/bin/example" >"$root/out" || fail "the example ended with $?"
"$prefix/bin/static-example" >>"$root/out" || fail "the example that is linked statically ended with $?"
[ "$(grep -cx 'hello from Linux' "$root/out")" = 2 ] || fail "the example printed: $(cat "$root/out")"
[ "$("$prefix/bin/supermachine" run busybox echo hello)" = hello ] || fail "the program does not run"
echo "ok: installed $version, compiled and ran against it"
