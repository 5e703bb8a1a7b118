#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Big programs give in a guest what they give in a chroot on the host: big_programs.py SUPERMACHINE [NAME...].
$SM_ENGINE and $SM_VCPUS choose the guest (soft, and 1)."""
import glob
import io
import os
import sys
import tarfile

import big_build
from image_cache import Skip
from real_images import SOURCE, Case, program, run_cases

VCPUS = os.environ.get("SM_VCPUS", "1")
GUEST = ["--memory", "1500", "--timeout", "7000", "--vcpus", VCPUS, "--engine", os.environ.get("SM_ENGINE", "soft")]
CPYTHON = """cd /tmp; for t in math decimal re json struct threading ssl; do
    python3 -m test -q test_$t >$t.log 2>&1; s=$?; echo "$t $s"; [ $s = 0 ] || tail -n 40 $t.log
done"""
# Each alone, so that a failure has a name; what it prints holds times.
STRESS = """for s in cpu vm matrix atomic switch signal fork mmap memfd; do
    stress-ng --verify --timeout %s --$s 4 --vm-bytes 64m --mmap-bytes 64m --memfd-bytes 32m >/tmp/log 2>&1
    s=$s:$?; echo $s; case $s in *:0) ;; *) cat /tmp/log ;; esac
done""" % os.environ.get("SM_STRESS_EACH", "60s")
NODE = "cat >/tmp/w.js; exec node /tmp/w.js"
JAVA = "cat >/tmp/Work.java; exec java -Xmx400m /tmp/Work.java"
GCC = """cd /tmp && tar x && gcc -O2 -Isrc -Iinclude -o decode decode_all.c src/cpu/soft/insn_*.c &&
    ./decode </bin/bash"""
APT = """apt-get install -y /opt/hello_*.deb >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }
    hello; dpkg -s hello | grep -e Status -e Version; dpkg --verify hello; apt-get purge -y hello >/tmp/log 2>&1; echo $?
    test -e /usr/bin/hello || echo gone"""


def decoder():
    """Our own decoder: some thousand lines of C that need nothing but the compiler."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as t:
        t.add(f"{os.path.dirname(__file__) or '.'}/programs/decode_all.c", "decode_all.c")
        for path in sorted(glob.glob(f"{SOURCE}/src/cpu/soft/*.h") + glob.glob(f"{SOURCE}/src/cpu/soft/insn_*.c") +
                           glob.glob(f"{SOURCE}/src/*/*.h") + [f"{SOURCE}/include/supermachine.h"]):
            if not path.endswith("_test.c"):
                t.add(path, os.path.relpath(path, SOURCE))
    return raw.getvalue()


def cases(image):
    where = f"oci:{image}/oci:big"

    def case(name, script, data=None):
        return Case(name, where, ["sh", "-c", script], data, options=GUEST)

    yield case("apt", APT)
    yield case("gcc", GCC, decoder())
    yield case("go", "/opt/work")
    yield case("node-workers", NODE, program("workers.js").encode())
    yield case("java", JAVA, program("Work.java").encode())
    yield case("postgres", program("postgres.sh"))
    yield case("cpython", CPYTHON)
    yield case("stress", STRESS)


def main():
    try:
        image = big_build.image(SOURCE)
    except Skip as reason:
        print(f"SKIP: {reason}")
        return 77
    return run_cases(sys.argv[1], cases(image), image, sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
