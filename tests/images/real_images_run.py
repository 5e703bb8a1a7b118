# SPDX-License-Identifier: Apache-2.0
"""One command twice: by supermachine in a guest, and by chroot on the host. Run as a program, this file is
the host's side: its own network, process and mount spaces, so that ports, /proc and /tmp are fresh."""
import fcntl
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SIOCSIFFLAGS, IFF_UP = 0x8914, 1


class Result:
    def __init__(self, argv, data, **kw):
        start = time.monotonic()
        p = subprocess.run(argv, input=data, capture_output=True, **kw)
        self.seconds = time.monotonic() - start
        self.out, self.err, self.status = p.stdout, p.stderr, p.returncode


def guest(exe, image, argv, data=None, options=(), home=None):
    """supermachine run IMAGE ARGV. A negative status is a signal that ended supermachine itself."""
    run = [exe, "run", "--engine", "soft", "--memory", "512", "--timeout", "400"]
    run += ["-i"] if data is not None else []
    return Result(run + list(options) + [image] + argv, data or b"",
                  env=dict(os.environ, SUPERMACHINE_HOME=home))


def host(root, argv, data=None):
    with tempfile.TemporaryDirectory(prefix="sm-real.") as scratch:
        return Result(["unshare", "--net", "--pid", "--mount", "--fork", "--kill-child",
                       sys.executable, "-B", __file__, scratch, root] + argv, data or b"")


def mount(kind, where, options="rw"):
    subprocess.run(["mount", "-t", kind, "-o", options, kind, where], check=True)


def inside(scratch, root, argv):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    # What the command writes goes, as in the guest, to an overlay that ends with it.
    mount("tmpfs", scratch)
    for name in ("upper", "work", "root"):
        os.mkdir(f"{scratch}/{name}")
    mount("overlay", f"{scratch}/root",
          f"lowerdir={root},upperdir={scratch}/upper,workdir={scratch}/work")
    root = f"{scratch}/root"
    for kind, where in (("proc", "proc"), ("tmpfs", "tmp"), ("tmpfs", "dev/shm")):
        os.makedirs(f"{root}/{where}", exist_ok=True)
        mount(kind, f"{root}/{where}")
    # Not exec: process 1 is deaf to the signals that end others.
    status = subprocess.run(["chroot", root, "env", "-i", PATH, "HOME=/root"] + argv).returncode
    sys.exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    inside(sys.argv[1], sys.argv[2], sys.argv[3:])
