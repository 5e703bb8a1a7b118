#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs of real Debian images give in a guest what they give in a chroot on the host: real_images.py
SUPERMACHINE [NAME...]. Standard output, standard error and exit status must be the same, byte for byte."""
import os
import shutil
import sys
import tempfile
import time

import real_images_build
from image_cache import Skip
from real_images_run import Result, guest, host

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.environ.get("SM_SOURCE_DIR", os.path.dirname(os.path.dirname(HERE)))
# Every name's kind, mode, owner, links, size, time and target, but what the guest itself provides.
TREE = (r"find / \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /run -o -path /root -o "
        r"-path /etc/hosts -o -path /etc/hostname -o -path /etc/resolv.conf -o -path /etc/mtab -o -path /etc/machine-id \) -prune "
        r"-o -type d -printf '%p %y %m %U:%G\n' "
        r"-o -printf '%p %y %m %U:%G %n %s %T@ %l\n' | LC_ALL=C sort > /tmp/list; "
        r"wc -l < /tmp/list; sha256sum < /tmp/list; ls -d /usr/share/doc/perl /etc/issue.net")
VERIFY = ["sh", "-c", "dpkg --verify; dpkg -l | wc -l; apt-get check; apt-get -s remove -y perl-base; echo $?"]


def program(name):
    return open(f"{HERE}/programs/{name}").read()


class Case:
    def __init__(self, name, where, argv, data=None, status=0, same=None, **kw):
        self.name, self.where, self.argv, self.data, self.status = name, where, argv, data, status
        self.expect, self.options, self.own_store = same, kw.get("options", ()), kw.get("own_store")


def cases(images):
    tag = f"oci:{images}/oci:"
    perl = ["perl", "-e", program("compute.pl")]
    wc = ["perl", "-ne", '$n += length; $l++; END { print "$l $n $.\\n" }']
    text = b"".join(b"line %d of the input\n" % i for i in range(50000))
    user = Result(["true"], b"")
    user.out = b"33|33|33|/var/tmp|two words|ro\n"
    yield Case("apt", tag + "bookworm", ["apt-get", "--version"])
    yield Case("apt-error", tag + "bookworm", ["apt-get", "nonsense"], status=100)
    yield Case("perl", tag + "bookworm", perl, status=3)
    yield Case("perl-stdin", tag + "bookworm", wc, text)
    yield Case("perl-signal", tag + "bookworm", ["perl", "-e", "$|=1; print 1; kill 15, $$"], status=143)
    yield Case("python3", tag + "python3", ["python3", "-c", program("compute.py")], status=9)
    yield Case("node", tag + "nodejs", ["node", "-e", program("compute.js")], status=6)
    yield Case("node-throw", tag + "nodejs", ["node", "-e", "console.log(1); null.x"], status=1)
    yield Case("redis", tag + "redis", ["sh", "-c", program("redis.sh")])
    yield Case("tree", tag + "redis", ["sh", "-c", TREE], status=2)
    yield Case("dpkg", tag + "redis", VERIFY)
    yield Case("user", tag + "user", [], same=user)
    yield Case("user-override", tag + "user", ["-e", "print \"$< $ENV{HOME}\\n\"; open F, '>/etc/x' or die $!"],
               same="denied", status=13, options=["-u", "games", "-w", "/"])
    yield Case("docker-archive", f"docker-archive:{images}/bookworm.tar", perl, status=3, own_store=True)
    yield Case("zstd", f"oci:{images}/zstd:bookworm", perl, status=3, own_store=True)


def expected(case, images, seen):
    if case.expect == "denied":
        r = Result(["true"], b"")
        r.out, r.err, r.status = b"5 /usr/games\n", b"Permission denied at -e line 1.\n", 13
        return r
    if case.expect:
        return case.expect
    key = (tuple(case.argv), case.data)
    if key not in seen:
        seen[key] = host(f"{images}/rootfs", case.argv, case.data)
    return seen[key]


def differences(case, got, want):
    if want.status != case.status:
        yield f"on the host: status {want.status}, not {case.status}: {want.err[-2000:]!r}"
    if got.status < 0:
        yield f"supermachine itself ended by signal {-got.status}"
    elif got.status != want.status:
        yield f"status {got.status}, on the host {want.status}"
    for name, a, b in (("stdout", got.out, want.out), ("stderr", got.err, want.err)):
        a, b = a.splitlines(), b.splitlines()
        if a == b:
            continue
        n = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        yield f"{name} line {n + 1} of {len(a)}, on the host of {len(b)}:"
        yield f"  guest {b''.join(a[n:n + 1])[:600]!r}"
        yield f"  host  {b''.join(b[n:n + 1])[:600]!r}"


def run_cases(exe, cases, images, names):
    """Each of the cases, or of those named. The exit code."""
    failed, seen = 0, {}
    with tempfile.TemporaryDirectory(prefix="sm-real.") as home:
        for case in cases:
            if names and case.name not in names:
                continue
            # A store of its own: or the layers, known by their diff id, would not be read at all.
            store = f"{home}/{case.name}" if case.own_store else f"{home}/store"
            os.makedirs(store, exist_ok=True)
            want = expected(case, images, seen)
            got = guest(exe, case.where, case.argv, case.data, case.options, store)
            bad = list(differences(case, got, want))
            failed += bool(bad)
            print(f"{'FAIL' if bad else 'ok  '} {case.name}: {got.seconds:.1f} s, host {want.seconds:.1f} s, "
                  f"{len(got.out)} bytes", *bad, sep="\n     ", flush=True)
            if case.own_store:
                shutil.rmtree(store)
    print(f"{failed} failed")
    return 1 if failed else 0


def main():
    start = time.monotonic()
    try:
        images = real_images_build.images(SOURCE)
    except Skip as reason:
        print(f"SKIP: {reason}")
        return 77
    print(f"images: {images} ({time.monotonic() - start:.1f} s)", flush=True)
    return run_cases(sys.argv[1], cases(images), images, sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
