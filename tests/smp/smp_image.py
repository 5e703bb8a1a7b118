# SPDX-License-Identifier: Apache-2.0
"""An image with busybox, stress-ng and the libraries that it needs, taken from this host.
smp_image.py DIR makes one at DIR, for runs by hand."""
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/../image")

from images import Layout, ZSTD, config  # noqa: E402

APPLETS = ("sh", "cat", "dmesg", "grep", "nproc", "sleep", "echo", "seq", "md5sum", "mkdir", "rm")


def stress_ng():
    """Path of the program, or None."""
    return shutil.which("stress-ng")


def libraries(program):
    text = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return re.findall(r"(/\S+) \(0x", text)


def layer(program):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as t:
        for path in ["/bin/busybox", program, *libraries(program)]:
            t.add(os.path.realpath(path), path.lstrip("/"), recursive=False)
        for name in APPLETS:
            info = tarfile.TarInfo("bin/" + name)
            info.type, info.linkname = tarfile.SYMTYPE, "busybox"
            t.addfile(info)
        info = tarfile.TarInfo("tmp")
        info.type, info.mode = tarfile.DIRTYPE, 0o1777
        t.addfile(info)
    return raw.getvalue()


def make(path):
    """The image's name."""
    raw = layer(stress_ng())
    out = Layout(path)
    out.add(out.image([raw], media=ZSTD, conf=config([raw], config={"Env": ["PATH=/bin:/usr/bin"]})))
    return "oci:" + path


if __name__ == "__main__":
    print(make(sys.argv[1]))
