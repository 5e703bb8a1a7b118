# SPDX-License-Identifier: Apache-2.0
"""What the guest's own kernel (6.1) sees on virtio-pmem with -o dax=always, under QEMU, against our reader.

test_guest_kernel.py LISTER KERNEL_DIR BUILD_INITRAMFS
"""
import os
import re
import shutil
import stat
import subprocess
import sys
import unittest
import zlib

import erofs_read
import oracle

LISTER, KERNEL, BUILD = sys.argv[1:4]


class GuestKernel(oracle.LayerTest):
    def boot(self, image):
        size = max(os.path.getsize(image), 4 << 20) + (2 << 20) - 1 & -(2 << 20)
        os.truncate(image, size)  # virtio-pmem wants whole 2 MiB
        initramfs = self.path("initramfs")
        subprocess.run([BUILD, LISTER, KERNEL + "/modules", initramfs], check=True,
                       env=dict(os.environ, EXTRA_MODULES="virtio_pci:-"))
        p = subprocess.run(["qemu-system-x86_64", "-M", "q35", "-cpu", "max", "-accel", "tcg", "-nodefaults",
                            "-m", "512,slots=2,maxmem=4G", "-no-reboot", "-display", "none", "-serial", "stdio",
                            "-kernel", KERNEL + "/vmlinuz", "-initrd", initramfs,
                            "-append", "console=ttyS0 panic=-1",
                            "-object", f"memory-backend-file,id=m,mem-path={image},size={size},share=on",
                            "-device", "virtio-pmem-pci,memdev=m"],
                           stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
        return p.stdout.replace(b"\r", b"").decode("ascii", "replace")

    def expected(self, image):
        lines = []
        for name, e in erofs_read.listing(image).items():
            def hexed(data):
                return data.hex() or "-"
            crc = f"{e._crc:08x}" if e.type == stat.S_IFREG else None
            size = {stat.S_IFREG: e.size, stat.S_IFDIR: len(getattr(e, "_dir", "")),
                    stat.S_IFLNK: len(e.target or "")}.get(e.type, 0)
            data = [crc, crc] if crc else [hexed(e.target or b""), "-"]
            lines.append(" ".join(["E", hexed(b"" if name == b"/" else name), f"{e.type | e.mode:o}", str(e.uid),
                                   str(e.gid), f"{e.mtime // 10**9}.{e.mtime % 10**9:09}", str(size),
                                   "%d:%d" % (e.rdev or (0, 0)), str(e.nlink), str(e._nid)] + data +
                                  [f"{k.hex()}={len(v)}:{zlib.crc32(v):08x}" for k, v in e.xattrs.items()]))
        return sorted(lines)

    def test_dax(self):
        Tar = oracle.Tar
        blob = b""
        if oracle.ROOT:
            src = oracle.make_tree(self.path("src"), files=300)
            blob = subprocess.run(["tar", "-C", src, "--format=posix", "--sparse", "--xattrs", "--xattrs-include=*",
                                   "-cf", "-", "."], check=True, capture_output=True).stdout.rstrip(b"\0")
            blob += bytes(-len(blob) % 512)
        else:
            print("part SKIPPED: only root can make the device and owner samples", end=" ")
        t = Tar().dir("w").add("w/.wh.gone").dir("w/opaque").add("w/opaque/.wh..wh..opq").add("w/f", data=b"f" * 9000)
        t.hard("w/h", "w/f").sym("w/s", "f").add("w/c", oracle.tarfile.CHRTYPE, devmajor=5, devminor=1)
        big = {"SCHILY.xattr.user.%d" % i: "v" * 9000 for i in range(5)}
        t.add("w/x", data=b"x", pax=big).dir("w/xd", pax=big).add("w/xd/in")
        self.convert(blob + t.bytes())
        want = self.expected(self.path("image"))
        out = self.boot(self.path("image"))
        # The kernel's own messages may come in the middle of a line of ours.
        ours = re.sub(r"\[ *\d+\.\d{6}\] [^\n]*\n?", "", out)
        got = sorted(line for line in ours.split("\n") if line.startswith("E "))
        self.assertIn("\nDONE", out, out[-3000:])
        self.assertIn("erofs: DAX enabled", out, out[:3000])
        self.assertEqual(len(got), len(want), out[-1000:])
        for a, b in zip(got, want):
            self.assertEqual(a, b)


if __name__ == "__main__":
    if not shutil.which("qemu-system-x86_64") or not os.path.exists(KERNEL + "/vmlinuz"):
        print("SKIP: no QEMU or no guest kernel in", KERNEL)
        sys.exit(77)
    unittest.main(verbosity=2, argv=sys.argv[:1])
