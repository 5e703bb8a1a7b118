#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One guest suite for every engine: small programs that print what they observe, here and in a guest.

suite.py run [--engine E] [--vcpus N] [--long] SUPERMACHINE PROGRAMS [NAME...]
    runs all of PROGRAMS (a folder of static binaries), or those named, on this host and in one guest; each
    must print the same, end with 0, and leave no warning in the guest's log.
suite.py selftests [--engine E] [--vcpus N] SUPERMACHINE CACHE
    the kernel's own x86 and breakpoint selftests (x86_selftests.sh) in one guest: each must end with 0 and fail nothing.
suite.py image PROGRAMS DIR
    only makes the image (an OCI layout), to be run as `supermachine run oci:DIR sh /t/all.sh /t`.
Exit: 0 equal, 1 not, 77 cannot be compared here.
"""
import argparse
import difflib
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE) + "/image")
from images import Layout, TAR, config

SH = "bin/busybox"
APPLETS = ["sh", "timeout", "dmesg", "date"]
# What the kernel says when it finds itself or its processor at fault.
WARNING = re.compile(r"WARNING:|BUG:|Oops|general protection fault|rcu_.*stall|lockup|unchecked MSR|"
                     r"clocksource: .*unstable|spurious|invalid opcode: 0000")
ROUNDS = {False: "500", True: "1000000"}


def layer(programs):
    """busybox, the programs in /t, and all.sh."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as t:
        def add(name, data=None, link=None):
            info = tarfile.TarInfo(name)
            info.mode = 0o755
            info.size = len(data or b"")
            if link:
                info.type, info.linkname = tarfile.SYMTYPE, link
            t.addfile(info, io.BytesIO(data or b""))

        with open("/bin/busybox", "rb") as f:
            add(SH, f.read())
        for name in APPLETS:
            add("bin/" + name, link="busybox")
        for name in sorted(os.listdir(programs)):
            path = f"{programs}/{name}"
            if os.path.isfile(path) and os.access(path, os.X_OK):
                with open(path, "rb") as f:
                    add("t/" + name, f.read())
        with open(HERE + "/all.sh", "rb") as f:
            add("t/all.sh", f.read())
    return raw.getvalue()


def make_image(programs, where):
    data = layer(programs)
    l = Layout(where)
    l.add(l.image([data], media=TAR, conf=config([data], config={"Cmd": ["/bin/sh", "/t/all.sh", "/t"]})))


def sections(text):
    """{program: (status, lines, seconds)} of what all.sh printed."""
    found = {}
    for m in re.finditer(r"^=== (\S+)\n(.*?)^=== \1: status (\d+) after (\d+) s$", text, re.M | re.S):
        found[m.group(1)] = (int(m.group(3)), m.group(2).splitlines(), int(m.group(4)))
    return found


def on_host(args):
    """None for programs that judge themselves."""
    if args.command == "selftests":
        return {name: None for name in args.names}
    r = subprocess.run(["sh", HERE + "/all.sh", args.programs, *args.names], capture_output=True, text=True,
                       errors="replace")
    return sections(r.stdout)


def in_guest(args, where):
    run = [args.supermachine, "run", "--memory", "512", "--timeout", str(args.timeout)]
    run += ["--engine", args.engine] if args.engine else []
    run += ["--vcpus", args.vcpus] if args.vcpus else []
    script = 'export ROUNDS; sh /t/all.sh /t "$@"; echo "=== log"; dmesg; echo "=== log: status 0 after 0 s"'
    r = subprocess.run([*run, "-e", "ROUNDS=" + ROUNDS[args.long], "oci:" + where, "sh", "-c", script, "sh", *args.names],
                       capture_output=True, text=True, errors="replace",
                       env=dict(os.environ, SUPERMACHINE_HOME=where + ".store"))
    return r, sections(r.stdout)


def verdict(name, here, there):
    """What is wrong with a program, as lines."""
    if there is None:
        return ["it did not end in the guest"]
    bad = [f"status {there[0]} in the guest"] if there[0] else []
    if here is None: # some of the kernel's tests end with 0 whatever they found
        bad += [line for line in there[1] if line.startswith(("not ok", "[FAIL]"))]
    if here is None:
        return bad and bad + there[1][-30:]
    if here[0]:
        bad.append(f"status {here[0]} on this host")
    bad += [line.rstrip("\n") for line in difflib.unified_diff(here[1], there[1], "host", "guest", lineterm="", n=0)][2:]
    return bad


def run(args):
    if os.geteuid() != 0:
        print("SKIP: not root: namespaces and mounts cannot be compared")
        return 77
    os.environ["ROUNDS"] = ROUNDS[args.long]
    failed = 0
    with tempfile.TemporaryDirectory(prefix="sm-suite.") as d:
        make_image(args.programs, d + "/image")
        here = on_host(args)
        start = time.monotonic()
        process, there = in_guest(args, d + "/image")
        log = there.pop("log", (0, [], 0))[1]
        for name in here:
            bad = verdict(name, here[name], there.get(name))
            failed += bool(bad)
            took = f"{there[name][2]} s" if name in there else "no end"
            took += f", host {here[name][2]} s" if here[name] else ""
            print(f"{'FAIL' if bad else 'ok  '} {name}: {took}", *bad, sep="\n     ", flush=True)
        warnings = [line for line in log if WARNING.search(line)]
        if process.returncode or warnings or not log:
            failed += 1
            print(f"FAIL the guest: exit {process.returncode}", process.stderr[-3000:], *warnings[:20], sep="\n     ")
        print(f"{len(here)} programs, {failed} failed, {time.monotonic() - start:.1f} s in the guest")
    return 1 if failed or not here else 0


def selftests(args):
    with tempfile.TemporaryDirectory(prefix="sm-selftests.") as d:
        made = subprocess.run(["sh", HERE + "/x86_selftests.sh", args.cache, d])
        if made.returncode:
            return made.returncode
        args.programs, args.names, args.long = d, sorted(os.listdir(d)), False
        return run(args)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "selftests"):
        p = commands.add_parser(name)
        p.add_argument("--engine", default=os.environ.get("SM_ENGINE"))
        p.add_argument("--vcpus")
        p.add_argument("--timeout", type=int, default=1500)
        p.add_argument("supermachine")
        if name == "selftests":
            p.add_argument("cache")
            continue
        p.add_argument("--long", action="store_true", help="litmus tests of 10^6 rounds")
        p.add_argument("programs")
        p.add_argument("names", nargs="*")
    p = commands.add_parser("image")
    p.add_argument("programs")
    p.add_argument("dir")
    args = parser.parse_args()
    if args.command == "image":
        make_image(args.programs, args.dir)
        return 0
    return selftests(args) if args.command == "selftests" else run(args)


if __name__ == "__main__":
    sys.exit(main())
