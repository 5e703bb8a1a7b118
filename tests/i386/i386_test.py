#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""32-bit programs in a guest: i386_test.py SUPERMACHINE [NAME...]. Programs of our own (programs/*.c) and Debian's
i386 busybox, in an image for linux/386. Output and status must be those of the same binaries on the host. Where
the host has no 32-bit compiler, cannot run 32-bit programs or cannot fetch busybox, that part is skipped."""
import os
import shlex
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.environ.get("SM_SOURCE_DIR", os.path.dirname(os.path.dirname(HERE)))
sys.path.insert(0, SOURCE + "/tests/image")
import images  # noqa: E402

CFLAGS = ["-m32", "-march=i686", "-mno-sse", "-O1", "-static", "-fno-omit-frame-pointer", "-D_GNU_SOURCE", "-Wall"]
SCRIPTS = {
    "uname": "uname -m; echo $((1 << 30)) $((1 << 62)); expr 123456789 % 1000",
    "sums": "seq 1 30000 > n; md5sum < n; sha1sum < n; sha256sum < n; sha512sum < n; cksum < n; rm n",
    "text": "seq 1 3000 | sed 's/7/seven/g' | awk '{ n += length; h = (h * 31 + $1) % 1000003 } END { print n, h, NR }'; "
            "seq 1 2000 | sort -r | uniq | tail -3; echo 'scale=30; 4*a(1)' | bc -l",
    "pack": "seq 1 20000 | gzip -9 > z; gunzip < z | wc; seq 1 20000 | bzip2 | bunzip2 | md5sum; "
            "tar c z | tar t; rm z",
    "processes": "i=0; while [ $i -lt 40 ]; do i=$((i + 1)); echo $i | cat > /dev/null & done; wait; echo done; "
                 "sh -c 'kill -TERM $$'; echo $?; (exit 7); echo $?; trap 'echo got it' USR1; kill -USR1 $$",
    "floats": "od -A n -t f8 /bin/busybox | md5sum; od -A n -t f4 /bin/busybox | md5sum",
}


def compiled(where):
    """The programs, or why there are none."""
    found = []
    for name in sorted(os.listdir(HERE + "/programs")):
        out = f"{where}/{name[:-2]}"
        p = subprocess.run(["gcc", *CFLAGS, "-o", out, f"{HERE}/programs/{name}", "-lm", "-lpthread"],
                           capture_output=True, text=True)
        if p.returncode != 0:
            if "skipping incompatible" in p.stderr or "gnu/stubs-32.h" in p.stderr:
                return [], "no 32-bit C library (libc6-dev-i386, lib32gcc-12-dev)"
            raise RuntimeError(p.stderr)
        found.append(out)
    return found, None


def busybox():
    """Debian's, for i386, and why there is none."""
    p = subprocess.run([SOURCE + "/tools/fetch-i386", SOURCE + "/out/cache/i386", "busybox-static"],
                       capture_output=True, text=True)
    if p.returncode == 77:
        return None, p.stderr.strip().splitlines()[-1]
    if p.returncode != 0:
        raise RuntimeError(p.stderr)
    tree = subprocess.run(["dpkg-deb", "--fsys-tarfile", p.stdout.strip()], capture_output=True, check=True).stdout
    return subprocess.run(["tar", "xO", "./bin/busybox"], input=tree, capture_output=True, check=True).stdout, None


def tar(files):
    """Executable files."""
    with tempfile.TemporaryDirectory() as d:
        for name, data in files:
            os.makedirs(os.path.dirname(f"{d}/{name}"), exist_ok=True)
            with open(f"{d}/{name}", "wb") as f:
                f.write(data)
            os.chmod(f"{d}/{name}", 0o755)
        return subprocess.run(["tar", "c", "--sort=name", "--owner=0", "--group=0", "-C", d, "."],
                              capture_output=True, check=True).stdout


def result(argv, **kw):
    p = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kw)
    return p.returncode, p.stdout


MARK = "-- end of "


def guest(exe, layout, home, commands):
    """Run all the (name, shell command) pairs in one machine; {name: (status, output)}."""
    text = "".join(f"({c}) 2>&1; echo '{MARK}{n}' $?; " for n, c in commands)
    status, out = result([exe, "run", "--engine", "soft", "--timeout", "400", "-w", "/tmp", f"oci:{layout}:i386",
                          "busybox", "sh", "-c", text], env=dict(os.environ, SUPERMACHINE_HOME=home))
    found, part = {}, b""
    for line in out.splitlines(keepends=True):
        if line.startswith(MARK.encode()):
            name, code = line[len(MARK):].split()
            found[name.decode()], part = (int(code), part), b""
        else:
            part += line
    if status != 0 or part:
        print(f"supermachine: status {status}, {part.decode(errors='replace')}")
    return found


def check(name, got, want):
    if got == want:
        print(f"ok   {name}: status {got[0]}, {len(got[1])} bytes", flush=True)
        return 0
    got = got or (-1, b"did not end")
    print(f"FAIL {name}: status {got[0]}, on the host {want[0]}")
    mine, theirs = got[1].splitlines(), want[1].splitlines()
    for i in range(max(len(mine), len(theirs))):
        if mine[i:i + 1] != theirs[i:i + 1]:
            print(f"     line {i + 1}: {mine[i:i + 1]}, on the host {theirs[i:i + 1]}")
    return 1


def executable(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)
    os.chmod(path, 0o755)


def make_image(where, programs, box):
    """An image for linux/386 with everything in /bin."""
    files = [("bin/" + os.path.basename(p), open(p, "rb").read()) for p in programs]
    files += [("bin/sh", box), ("bin/busybox", box)]
    layer = tar(files + [(d + "/.keep", b"") for d in ("tmp", "proc", "dev", "sys")])
    lay = images.Layout(where)
    lay.add(lay.image([layer], conf=images.config([layer], architecture="386")), tag="i386",
            platform=images.platform("linux", "386"))


def main():
    exe, names = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory(prefix="sm-i386.") as work:
        box, why = busybox()
        if why:
            print(f"SKIP: {why}")
            return 77
        host_box = f"{work}/host/bin/busybox"
        executable(host_box, box)
        try:
            subprocess.run([host_box, "true"], timeout=60, check=True)
        except OSError as e:
            print(f"SKIP: this host runs no 32-bit programs: {e.strerror}")
            return 77
        programs, why = compiled(work)
        if why:
            print(f"SKIP programs: {why}")
        make_image(f"{work}/layout", programs, box)
        commands, want = [], {}
        for p in programs:
            name = os.path.basename(p)
            commands.append((name, f"/bin/{name}"))
            want[name] = (lambda p=p: result([p], cwd=work))
        for name, script in SCRIPTS.items():
            script = script.replace("/bin/busybox", "$B")
            commands.append((name, f"B=/bin/busybox PATH= /bin/busybox sh -c {shlex.quote(script)}"))
            want[name] = (lambda script=script: result(
                [host_box, "sh", "-c", script], cwd=f"{work}/host",
                env={"PATH": "", "B": host_box}))
        commands = [c for c in commands if not names or c[0] in names]
        os.mkdir(f"{work}/home")
        got = guest(exe, f"{work}/layout", f"{work}/home", commands)
        failed = sum(check(name, got.get(name), want[name]()) for name, _ in commands)
    print(f"{len(commands)} ran, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
