#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What layers are together: stacks of them in a guest, against the tree that `umoci unpack` makes of the same
image (the rows of reliability-checklist 3.7 that take more than one layer). layers_test.py CLI"""
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "erofs")]
from images import Layout, TAR, run_tests
from oracle import Tar

CLI = os.path.abspath(sys.argv[1])
# One line per file: type and mode, owner, mtime, size or link, content; of directories not the size.
LIST = ('cd / && /busybox find . -xdev \\( -path ./proc -o -path ./sys -o -path ./dev \\) -prune -o -print | while '
        'read -r f; do if [ -L "$f" ]; then x=$(/busybox readlink "$f"); elif [ -f "$f" ]; then '
        'x=$(/busybox sha256sum < "$f"); else x=; fi; '
        'echo "$(/busybox stat -c "%n %f %u %g %Y %t,%T" "$f") $x"; done')
# What the agent adds to an image.
OURS = ("./proc", "./sys", "./dev", "./run", "./tmp", "./etc")
LATELY = 1700000000  # no entry here is so young: a tool made this time up


def base():
    with open(shutil.which("busybox"), "rb") as f:
        return Tar().dir("./", mode=0o751, mtime=11).add("busybox", data=f.read(), mode=0o755)


@unittest.skipUnless(os.geteuid() == 0 and shutil.which("umoci"), "umoci as root makes the tree to compare with")
class Stacks(unittest.TestCase):
    maxDiff = 4000

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="sm-layers-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def both(self, *layers):
        """Listings of the same image: in a guest, and of umoci's tree."""
        lay = Layout(self.dir + "/l")
        lay.add(lay.image([t.bytes() for t in layers], media=TAR), tag="1")
        subprocess.run(["umoci", "unpack", "--image", lay.path + ":1", self.dir + "/b"], check=True,
                       capture_output=True)
        want = subprocess.run(["chroot", self.dir + "/b/rootfs", "/busybox", "sh", "-c", LIST],
                              capture_output=True, text=True, check=True).stdout
        got = subprocess.run([CLI, "run", "--cold", f"oci:{lay.path}:1", "/busybox", "sh", "-c", LIST],
                             capture_output=True, text=True, timeout=120,
                             env={**os.environ, "SUPERMACHINE_HOME": self.dir + "/s"})
        self.assertEqual(got.returncode, 0, got.stdout + got.stderr)
        got, want = ({line.split(" ")[0]: line.split(" ") for line in text.splitlines()
                      if not line.startswith(tuple(x + end for x in OURS for end in " /"))}
                     for text in (got.stdout, want))
        for name, line in want.items():  # the time of directories that have no entry anywhere, or lost a child
            if int(line[1], 16) & stat.S_IFDIR and int(line[4]) > LATELY:
                line[4] = got.get(name, line)[4]
        # The agent makes folders in the root.
        got["."][4] = want["."][4]
        return [{name: " ".join(line) for name, line in tree.items()} for tree in (got, want)]

    def same(self, *layers):
        got, want = self.both(base(), *layers)
        self.assertEqual(got, want)
        return want

    def test_implied_parents(self):
        """LY-02, LY-04: a directory that a layer has no entry for stays what lower layers made it."""
        low = Tar().dir("sticky", mode=0o1777, mtime=5).dir("own", mode=0o700, uid=5, gid=6, mtime=7)
        low.dir("own/sub", mode=0o2750, uid=8, mtime=9).dir("twice", mode=0o711, uid=3).dir("gone", mode=0o700)
        low.dir("cover", mode=0o700, uid=9).dir("cover/x", mode=0o700).dir("explicit", mode=0o700, uid=1)
        low.add("file", data=b"1").dir("wh", mode=0o700, uid=4).add("wh/old").dir("deep/a/b", mode=0o700, uid=2)
        mid = Tar().add("sticky/a", mtime=3).add("own/sub/f", uid=1).add("twice/a").add("new/dir/f")
        mid.add(".wh.gone").add("cover/.wh..wh..opq").add("cover/y").dir("explicit", mode=0o755, uid=2)
        mid.dir("deep", mode=0o750, uid=7)
        top = Tar().dir("./", mode=0o711).add("twice/b").add("own/sub/g").add("gone/f").add("new/dir/g")
        top.add("explicit/f").add("deep/a/b/c/d").add("wh/.wh.old")
        got = self.same(low, mid, top)
        self.assertIn(f" {stat.S_IFDIR | 0o1777:x} ", got["./sticky"])
        self.assertIn(f" {stat.S_IFDIR | 0o2750:x} 8 ", got["./own/sub"])
        self.assertNotIn("./wh/old", got)

    def test_whiteouts(self):
        """LY-07, LY-08."""
        low = Tar().dir("d", mode=0o700).add("d/f").add("d/g").dir("d/sub").add("d/sub/x").sym("ln", "d").add("f")
        low.dir("opq", mode=0o700).add("opq/a").dir("opq/dir").add("opq/dir/b").dir("nest/a/b").add("nest/a/b/c")
        low.add("same", data=b"low").dir("back").add("back/old").hard("hard", "f")
        top = Tar().add("d/.wh.f").add("d/.wh.sub").add(".wh.ln").add(".wh.f").add(".wh.missing")
        top.add("opq/new").add("opq/.wh..wh..opq").dir("opq", mode=0o711).add("nest/a/.wh.b").dir("nest/a/b")
        top.add("same", data=b"top").add(".wh.back").dir("back", uid=3).add("back/new").add(".wh..wh.meta")
        got = self.same(low, top)
        for name in ("./d/f", "./d/sub", "./ln", "./f", "./opq/a", "./opq/dir", "./back/old", "./nest/a/b/c"):
            self.assertNotIn(name, got)
        for name in ("./d/g", "./opq/new", "./back/new", "./hard"):
            self.assertIn(name, got)

    def test_root_opaque(self):
        """LY-08: nothing of the layers below is left."""
        low = Tar().dir("a").add("a/b").add("c").sym("s", "a")
        got, want = self.both(base(), low, base().add("new").add(".wh..wh..opq"), Tar().add("a/late"))
        self.assertEqual(got, want)
        self.assertEqual(sorted(got), [".", "./a", "./a/late", "./busybox", "./new"])

    def test_replaced(self):
        """LY-04, LY-03, LY-09..12: kinds, attributes, links and devices over each other."""
        low = Tar().dir("dl").add("dl/x").sym("ld", "dl").add("fd", data=b"f").dir("df").add("df/x").add("mode", mode=0o600)
        low.add("a", data=b"1").hard("b", "a").dir("attr", mode=0o700, uid=1).add("attr/keep")
        top = Tar().sym("dl", "df").dir("ld", mode=0o711).add("ld/y").dir("fd").add("fd/z").add("df", data=b"now")
        top.add("mode", mode=0o6755, uid=2**31, gid=2**32 - 2, mtime=2**33).add("a", data=b"22")
        top.dir("attr", mode=0o1777, uid=9, mtime=4).add("c", tarfile.CHRTYPE, devmajor=5, devminor=1, mode=0o666)
        top.add("p", tarfile.FIFOTYPE).add("k", tarfile.BLKTYPE, devmajor=7, devminor=300)
        top.add("h1", data=b"linked").hard("h2", "h1").sym("h3", "h1").hard("h4", "h3")
        self.same(low, top)

    def test_many_layers(self):
        """Each layer changes the one below; what is implied is found through all of them."""
        layers = [Tar().dir("d", mode=0o700, uid=1).dir("d/e", mode=0o750, uid=2)]
        for i in range(40):
            t = Tar().add(f"d/e/{i}", data=b"%d" % i)
            layers.append(t.add(f"d/e/.wh.{i - 1}") if i % 2 else t)
        got = self.same(*layers)
        self.assertEqual(len([n for n in got if n.startswith("./d/e/")]), 20)


if __name__ == "__main__":
    run_tests()
