# SPDX-License-Identifier: Apache-2.0
"""Layers packed by GNU tar: our image, read by our reader and by the kernel, against GNU tar's extraction."""
import gzip
import os
import subprocess
import sys
import unittest

import oracle
from oracle import LayerTest, Mounted, comparable, disk_listing


def sh(*argv, **kw):
    return subprocess.run(argv, check=True, capture_output=True, **kw).stdout


@unittest.skipUnless(oracle.ROOT, "needs root to extract owners, devices and xattrs with GNU tar")
class GnuTar(LayerTest):
    def check(self, tar_args, ignore=(), src=None, files=100):
        src = src or oracle.make_tree(self.path("src"), files)
        tar = self.path("layer.tar")
        sh("tar", "-C", src, "--sort=name", *tar_args, "-cf", tar, ".")
        want_dir = self.path("want")
        os.makedirs(want_dir)
        sh("tar", "-C", want_dir, "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", tar)
        want = comparable(disk_listing(want_dir), ignore)
        with open(tar, "rb") as f:
            data = f.read()
        got = self.convert(tar, check_diff=data)
        self.compare(comparable(got, ignore), want)
        mounted = Mounted(self, self.path("image"))
        self.compare(comparable(disk_listing(mounted.where), ignore), want)
        return data

    def compare(self, got, want):
        self.assertEqual(sorted(got[0]), sorted(want[0]))
        for name in want[0]:
            self.assertEqual((name, got[0][name]), (name, want[0][name]))
        self.assertEqual(got[1], want[1])

    def test_posix(self):
        data = self.check(["--format=posix", "--xattrs", "--xattrs-include=*"], files=2000)
        with open(self.path("image"), "rb") as f:
            plain = f.read()
        self.convert(gzip.compress(data, 1), "gzip", "image.gz", data)
        zst = sh("zstd", "-q", "-c", input=data)
        self.convert(zst, "zstd", "image.zst", data)
        half = len(data) // 2  # several members, as pigz and estargz write
        self.convert(gzip.compress(data[:half], 1) + gzip.compress(b"") + gzip.compress(data[half:], 1),
                     "gzip", "image.multi", data)
        skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
        self.convert(skippable + zst + skippable, "zstd", "image.skip", data)
        for name in ("image.gz", "image.zst", "image.multi", "image.skip"):
            with open(self.path(name), "rb") as f:
                self.assertEqual(f.read(), plain, name)

    def test_gnu(self):
        self.check(["--format=gnu"], ignore=("xattrs",))

    def test_sparse_old_gnu(self):
        self.check(["--format=gnu", "--sparse"], ignore=("xattrs",))

    def test_sparse_posix(self):
        for version in ("0.0", "0.1", "1.0"):
            with self.subTest(version):
                self.check(["--format=posix", "--sparse", "--sparse-version=" + version, "--xattrs",
                            "--xattrs-include=*"])
                # Holes are holes: nine such files of 11 MiB, mostly empty.
                self.assertLess(os.path.getsize(self.path("image")), 40 << 20)
            self.doCleanups()
            self.setUp()

    def test_debian_tree(self):
        src = self.path("src")
        os.makedirs(src)
        for name in ("/usr/lib/python3", "/usr/share/perl5", "/usr/lib/python3.11", "/etc"):
            if os.path.isdir(name):
                sh("cp", "-a", name, src)
        self.check(["--format=posix", "--xattrs"], src=src)

    def test_large_directory(self):
        src = self.path("src")
        os.makedirs(src + "/many")
        for i in range(8000):
            open(f"{src}/many/{i:x}", "w").close()
        self.check(["--format=gnu"], src=src, ignore=("xattrs",))


@unittest.skipUnless(oracle.ROOT, "needs root for overlayfs and umoci unpack")
class Overlay(LayerTest):
    """Two layers stacked by the kernel's overlayfs, against umoci's unpacking of the same image."""

    def test_umoci(self):
        Tar = oracle.Tar
        reg = oracle.tarfile.REGTYPE
        lower = Tar().dir("./").dir("keep").add("keep/a", data=b"a").dir("gone").add("gone/x", data=b"x")
        lower.dir("opq").add("opq/old", data=b"old").dir("opq/sub").add("opq/sub/deep", data=b"d")
        lower.add("file", data=b"lower").add("del", data=b"del").sym("link", "keep").dir("both")
        lower.add("both/low", data=b"1").dir("was-dir").add("was-dir/y", data=b"y").add("was-file", data=b"f")
        lower.dir("redone").add("redone/stale", data=b"stale").dir("opq2").add("opq2/old", data=b"o")
        upper = Tar().dir("./").add(".wh.gone").add(".wh.del").dir("opq").add("opq/new", data=b"new")
        upper.add("opq/.wh..wh..opq").add("opq/newer", data=b"newer").add("file", data=b"upper")
        upper.dir("both").add("both/high", data=b"2").add("was-dir", data=b"now a file").dir("was-file")
        upper.add("was-file/in", data=b"in").dir("keep").add("keep/.wh.a").add("keep/b", data=b"b")
        # Whiteout and replacement in one layer, in both orders.
        upper.dir("redone").add("redone/fresh", data=b"fresh").add(".wh.redone")
        upper.add("opq2/.wh..wh..opq").dir("opq2").add("opq2/new", data=b"n")
        upper.sym("link", "both", mtime=5).add("del", reg, b"again").hard("hard", "file")
        layers = []
        for i, t in enumerate((lower, upper)):
            name = f"layer{i}"
            with open(self.path(name + ".tar"), "wb") as f:
                f.write(t.bytes())
            self.convert(self.path(name + ".tar"), image=name + ".img")
            layers.append(Mounted(self, self.path(name + ".img"), "mnt" + name).where)
        oci = self.path("oci")
        sh("umoci", "init", "--layout", oci)
        sh("umoci", "new", "--image", oci + ":t")
        for i in range(2):
            sh("umoci", "raw", "add-layer", "--image", oci + ":t", self.path(f"layer{i}.tar"))
        sh("umoci", "unpack", "--image", oci + ":t", self.path("bundle"))
        merged = self.path("merged")
        os.makedirs(merged)
        p = subprocess.run(["mount", "-t", "overlay", "overlay", "-o",
                            "ro,lowerdir=" + ":".join(reversed(layers)), merged], capture_output=True)
        if p.returncode:
            self.skipTest("cannot mount overlayfs here")
        self.addCleanup(subprocess.run, ["umount", merged], check=True)
        got = comparable(disk_listing(merged), ("xattrs", "mtime"))
        want = comparable(disk_listing(self.path("bundle/rootfs")), ("xattrs", "mtime"))
        self.assertEqual(got, want)


if __name__ == "__main__":
    unittest.main(verbosity=2, argv=sys.argv)
