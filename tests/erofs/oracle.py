# SPDX-License-Identifier: Apache-2.0
"""Shared by the layer tests: running the converter, and listings to compare with."""
import hashlib
import io
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
import unittest

import erofs_read

TOOL = os.path.join(os.environ["SM_BUILD_DIR"], "tests/erofs/layer2erofs")
ROOT = os.geteuid() == 0


class LayerTest(unittest.TestCase):
    maxDiff = 4000

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="sm-layer-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.dir, name)

    def run_tool(self, blob, codec="tar", limits=None, image="image"):
        env = dict(os.environ)
        if limits:
            env["SM_LIMITS"] = limits
        if isinstance(blob, bytes):
            with open(self.path("blob"), "wb") as f:
                f.write(blob)
            blob = self.path("blob")
        return subprocess.run([TOOL, codec, blob, self.path(image)], env=env, text=True,
                              errors="surrogateescape", capture_output=True, timeout=300)

    def convert(self, blob, codec="tar", image="image", check_diff=None, **more):
        """The listing of the image, which fsck.erofs must find clean; marks of implied parents in self.implied."""
        p = self.run_tool(blob, codec, image=image, **more)
        self.assertEqual((p.returncode, p.stderr), (0, ""))
        if check_diff is not None:
            self.assertEqual(p.stdout.strip(), "sha256:" + hashlib.sha256(check_diff).hexdigest())
        fsck = subprocess.run(["fsck.erofs", self.path(image)], capture_output=True, text=True)
        self.assertEqual(fsck.returncode, 0, fsck.stdout + fsck.stderr)
        listing = erofs_read.listing(self.path(image))
        marks = ((name, e.xattrs.pop(b"trusted.overlay.implied", None)) for name, e in listing.items())
        self.implied = {name: mark for name, mark in marks if mark}
        return listing

    def refused(self, blob, text, codec="tar", limits=None):
        """One clear line with text in it, no crash."""
        p = self.run_tool(blob, codec, limits)
        self.assertEqual(p.returncode, 1, p.stdout + p.stderr)
        self.assertIn(text, p.stderr)
        self.assertEqual(p.stderr.count("\n"), 1)


class Tar:
    """A tar archive in memory, made with Python's writer."""

    def __init__(self, fmt=tarfile.PAX_FORMAT):
        self.buf = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.buf, mode="w", format=fmt, errors="surrogateescape")

    def add(self, name, kind=tarfile.REGTYPE, data=b"", link="", pax=None, **fields):
        t = tarfile.TarInfo(name)
        t.type, t.linkname, t.size = kind, link, len(data)
        t.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
        t.pax_headers = pax or {}
        for k, v in fields.items():
            setattr(t, k, v)
        self.tar.addfile(t, io.BytesIO(data))
        return self

    def dir(self, name, **f):
        return self.add(name, tarfile.DIRTYPE, **f)

    def sym(self, name, link, **f):
        return self.add(name, tarfile.SYMTYPE, link=link, **f)

    def hard(self, name, link, **f):
        return self.add(name, tarfile.LNKTYPE, link=link, **f)

    def bytes(self):
        self.tar.close()
        return self.buf.getvalue()


def make_tree(src, files=2000):
    """A tree with one of everything (needs root)."""
    os.makedirs(src + "/dir/empty")
    os.makedirs(src + "/" + "/".join(["deep" * 20] * 12))
    for i in range(files):
        with open(f"{src}/dir/{'n' * (i % 60)}{i}", "w") as f:
            f.write(str(i) * (i % 7))
    for size in (0, 1, 4095, 4096, 4097, 100000, 3 << 20):
        with open(f"{src}/size-{size}", "wb") as f:
            f.write(os.urandom(size))
    for n, spots in enumerate(([], [0], [4096], [70000, 5000000], [10 << 20], range(0, 9 << 20, 8192))):
        with open(f"{src}/sparse-{n}", "wb") as f:
            for at in spots:
                f.seek(at)
                f.write(b"data" * 200)
            f.truncate((11 << 20) + n)
    os.link(src + "/size-4097", src + "/dir/hard")
    os.link(src + "/size-4097", src + "/a-hard")
    os.symlink("size-1", src + "/symlink")
    os.symlink("x" * 4000, src + "/long-symlink")
    os.symlink("y" * 150, src + "/mid-symlink")
    os.link(src + "/symlink", src + "/symlink-hard", follow_symlinks=False)
    os.mkfifo(src + "/fifo")
    os.mknod(src + "/chr", 0o020600, os.makedev(4095, 1048575))
    os.mknod(src + "/blk", 0o060660, os.makedev(8, 300))
    os.chown(src + "/size-1", 65534, 4000000000)
    os.chown(src + "/dir", 2147483648, 1)
    os.chmod(src + "/size-4096", 0o6755)
    os.chmod(src + "/dir/empty", 0o1777)
    os.chmod(src + "/size-0", 0)
    os.setxattr(src + "/size-1", "user.one", b"1\0\xff")
    os.setxattr(src + "/size-1", "user.empty", b"")
    os.setxattr(src + "/size-1", "user.big", bytes(range(256)) * 10)
    os.setxattr(src + "/size-1", "trusted.t", b"t")
    os.setxattr(src + "/dir", "user.on-dir", b"d" * 3000)
    subprocess.run(["setcap", "cap_net_raw+ep", src + "/size-4095"], check=True)
    for name in (b"\xff\xfe", b"new\nline", "caf\u00e9".encode(), "cafe\u0301".encode(), b"-", b"!",
                 b"z" * 255, b"back\\slash"):
        with open(os.fsencode(src) + b"/" + name, "wb") as f:
            f.write(name)
    os.utime(src + "/size-1", ns=(0, -1500000000))
    os.utime(src + "/size-4096", ns=(0, (1 << 33) * 10**9 + 123456789))
    os.utime(src + "/symlink", ns=(0, 12345678901234567), follow_symlinks=False)
    os.utime(src + "/dir", ns=(0, 7))
    return src


def disk_listing(root):
    """As erofs_read.listing, of a directory of the host."""
    root = os.fsencode(root)
    out = {}

    def visit(path, name):
        st = os.lstat(path)
        kind = stat.S_IFMT(st.st_mode)
        e = erofs_read.Entry(type=kind, mode=stat.S_IMODE(st.st_mode), uid=st.st_uid, gid=st.st_gid,
                             mtime=st.st_mtime_ns, size=None, sha256=None, target=None, rdev=None,
                             nlink=st.st_nlink, _nid=st.st_ino)
        e.xattrs = {os.fsencode(x): os.getxattr(path, x, follow_symlinks=False)
                    for x in os.listxattr(path, follow_symlinks=False)}
        if kind == stat.S_IFREG:
            e.size = st.st_size
            h = hashlib.sha256()
            with open(path, "rb") as f:
                while chunk := f.read(1 << 20):
                    h.update(chunk)
            e.sha256 = h.hexdigest()
        elif kind == stat.S_IFLNK:
            e.target = os.readlink(path)
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            e.rdev = (os.major(st.st_rdev), os.minor(st.st_rdev))
        out[name or b"/"] = e
        if kind == stat.S_IFDIR:
            for child in os.listdir(path):
                visit(path + b"/" + child, name + b"/" + child if name else child)

    visit(root, b"")
    return out


def comparable(listing, ignore=()):
    """Plain data: per name its attributes, and which names are one file."""
    out, groups = {}, {}
    for name, e in listing.items():
        key = {k: v for k, v in e.key().items() if k not in ignore}
        if e.type == stat.S_IFDIR:
            key.pop("nlink", None)  # some host file systems always say 1
        else:
            groups.setdefault(e._nid, []).append(name)
        out[name] = key
    return out, sorted(sorted(g) for g in groups.values() if len(g) > 1)


class Mounted:
    """The host kernel's view; raises SkipTest where mounting is not allowed."""

    def __init__(self, test, image, name="mnt"):
        self.where = test.path(name)
        os.makedirs(self.where, exist_ok=True)
        p = subprocess.run(["mount", "-t", "erofs", "-o", "loop,ro", image, self.where],
                           capture_output=True, text=True)
        if p.returncode:
            if not ROOT or "permission" in p.stderr or "loop" in p.stderr or "unknown" in p.stderr:
                raise unittest.SkipTest("cannot mount erofs here: " + p.stderr.strip())
            test.fail("kernel refuses the image: " + p.stderr)
        test.addCleanup(subprocess.run, ["umount", self.where], check=True)
