#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# all.sh DIR [NAME...]: the guest suite's programs, one after the other, on whatever machine this is. What they
# print goes to standard output between "=== NAME" and "=== NAME: status N after S s".
dir=$1
shift
[ $# != 0 ] || set -- fpu signals step breakpoints alignment memory threads litmus clocks segments kernel
for name in "$@"; do
    echo "=== $name"
    start=$(date +%s)
    timeout -k 5 "${LIMIT:-120}" "$dir/$name"
    echo "=== $name: status $? after $(($(date +%s) - start)) s"
done
