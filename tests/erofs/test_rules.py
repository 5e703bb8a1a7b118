# SPDX-License-Identifier: Apache-2.0
"""What a layer means, entry by entry: reliability-checklist 3.7 (LY-*), on archives made by hand."""
import gzip
import hashlib
import os
import stat
import struct
import subprocess
import sys
import tarfile
import unittest

import erofs_read
from oracle import TOOL, LayerTest, Tar

REG, DIR, CHR, FIFO, LNK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFLNK


def header(name=b"f", kind=b"0", size=b"00000000000\0", magic=b"ustar\x0000", mode=b"0000644\0",
           uid=b"0000000\0", gid=b"0000000\0", mtime=b"00000000000\0", link=b"", major=b"0000000\0",
           minor=b"0000000\0", prefix=b"", tail=b"", checksum=None):
    """One raw header block; every field can be lied about."""
    b = bytearray(512)
    for at, value in ((0, name), (100, mode), (108, uid), (116, gid), (124, size), (136, mtime),
                      (156, kind), (157, link), (257, magic), (329, major), (337, minor),
                      (345, prefix), (386, tail)):
        b[at:at + len(value)] = value
    b[148:156] = b" " * 8
    b[148:156] = checksum or b"%06o\0 " % sum(b)
    return bytes(b)


def octal(n):
    return b"%011o\0" % n


def pad(data):
    return data + bytes(-len(data) % 512)


def record(key, value):
    body = b" " + key + b"=" + value + b"\n"
    n = len(body) + 1
    while len(str(n)) + len(body) != n:
        n += 1
    return str(n).encode() + body


def pax(*records, kind=b"x"):
    data = b"".join(r if isinstance(r, bytes) else record(*r) for r in records)
    return header(b"PaxHeader", kind, octal(len(data))) + pad(data)


END = bytes(1024)


class Names(LayerTest):
    def names(self, *names, **kw):
        t = Tar()
        for n in names:
            t.add(n, **kw)
        return sorted(k for k, e in self.convert(t.bytes()).items() if e.type == REG)

    def test_normalised_inside(self):
        for name, want in (("/abs/x", b"abs/x"), ("./a", b"a"), ("a//b", b"a/b"), ("a/./b", b"a/b"),
                           ("a/../b", b"b"), ("//x", b"x"), ("...", b"..."), ("a\\b", b"a\\b"),
                           ("new\nline", b"new\nline"), ("\udcff\udcfe", b"\xff\xfe"),
                           ("x" * 255, b"x" * 255), ("d/" * 200 + "x", b"d/" * 200 + b"x")):
            with self.subTest(name[:20]):
                self.assertEqual(self.names(name), [want])

    def test_never_outside(self):
        for name in ("..", "../x", "a/../../b", "/../x", "./../x", "../../etc/passwd"):
            with self.subTest(name):
                self.refused(Tar().add(name).bytes(), "points outside the layer")
                self.refused(Tar().dir(name).bytes(), "points outside the layer")
                self.refused(Tar().sym(name, "x").bytes(), "points outside the layer")
                self.refused(Tar().add("t").hard("h", name).bytes(), "points outside the layer")

    def test_too_long(self):
        self.refused(Tar().add("x" * 256).bytes(), "longer than 255 bytes")
        self.refused(Tar().add("d/" * 2048 + "x").bytes(), "longer than 4095 bytes")

    def test_deep(self):
        name = "d/" * 2047 + "x"
        self.assertEqual(self.run_tool(Tar().add(name).bytes()).stderr, "")
        # fsck.erofs 1.5 recurses on its stack and crashes here; our reader does not.
        self.assertIn(name.encode(), erofs_read.listing(self.path("image")))

    def test_odd(self):
        self.refused(header(b"") + END, "without a name")
        self.refused(pax((b"path", b"a\0b")) + header() + END, "NUL")
        self.refused(header(b"f/") + END, "ends in '/'")
        for name in ("/", ".", "./", "/."):
            with self.subTest(name):
                e = self.convert(Tar().dir(name, mode=0o711, uid=5, mtime=9).bytes())[b"/"]
                self.assertEqual((e.mode, e.uid, e.mtime), (0o711, 5, 9 * 10**9))
                why = "ends in '/'" if name.endswith("/") else "root of the layer is not a directory"
                self.refused(Tar().sym(name, "x").bytes(), why)
                self.refused(Tar().add(name).bytes(), why)

    def test_implied_parents(self):
        got = self.convert(Tar().add("a/b/c", mtime=3, uid=4).dir("a", mode=0o700, uid=7).bytes())
        self.assertEqual((got[b"a"].mode, got[b"a"].uid), (0o700, 7))
        self.assertEqual((got[b"a/b"].mode, got[b"a/b"].uid, got[b"a/b"].mtime), (0o755, 0, 0))
        self.assertEqual(sorted(got), [b"/", b"a", b"a/b", b"a/b/c"])
        self.assertEqual(self.implied, {b"/": b"y", b"a": b"b", b"a/b": b"y"})
        self.convert(Tar().dir("./").dir("a").add("a/b").bytes())
        self.assertEqual(self.implied, {})

    def test_order_of_bytes(self):
        names = [bytes([c]) for c in range(1, 256) if c not in b"/."] + [b"..a", b".a", b"a.", b"aa"]
        t = Tar()
        for n in names:
            t.add(os.fsdecode(n))
        self.assertEqual(sorted(self.convert(t.bytes())), sorted(names + [b"/"]))


class Links(LayerTest):
    def test_through_symlinks(self):
        """LY-02: inside the root, as the container would see it."""
        for target in ("real", "/real", "../../real", "./x/../real", "/../real"):
            with self.subTest(target):
                t = Tar().dir("real").dir("x").sym("ln", target)
                t.add("ln/file", data=b"1").dir("ln/sub").add("ln/dev", tarfile.CHRTYPE, devmajor=1, devminor=3)
                t.hard("ln/hard", "ln/file").add("ln/.wh.w")
                got = self.convert(t.bytes())
                self.assertEqual(got[b"real/file"]._nid, got[b"real/hard"]._nid)
                self.assertEqual((got[b"real/w"].type, got[b"real/w"].rdev), (CHR, (0, 0)))
                self.assertEqual(got[b"ln"].target, target.encode())
                self.assertIn(b"real/sub", got)

    def test_dangling_and_chained(self):
        got = self.convert(Tar().sym("a", "b").sym("b", "/c/d").add("a/f").bytes())
        self.assertEqual(got[b"c/d/f"].type, REG)
        self.assertEqual(got[b"b"].type, LNK)

    def test_loops(self):
        self.refused(Tar().sym("a", "b").sym("b", "a").add("a/x").bytes(), "loop")
        self.refused(Tar().sym("a", "a/a").add("a/x").bytes(), "loop")
        t = Tar().sym("s0", "/")
        for i in range(1, 60):
            t.sym(f"s{i}", f"s{i - 1}/s{i - 1}")
        self.refused(t.add("s59/x").bytes(), "")

    def test_last_component_is_not_followed(self):
        got = self.convert(Tar().dir("real").sym("ln", "real").add("ln", data=b"f").bytes())
        self.assertEqual((got[b"ln"].type, got[b"real"].type), (REG, DIR))

    def test_hard(self):
        t = Tar().add("f", data=b"12", uid=3).sym("s", "f").hard("h1", "f", uid=9).hard("/h2", "./h1").hard("hs", "s")
        got = self.convert(t.bytes())
        self.assertEqual(len({got[n]._nid for n in (b"f", b"h1", b"h2")}), 1)
        self.assertEqual((got[b"h2"].nlink, got[b"h1"].uid), (3, 3))
        self.assertEqual((got[b"hs"].type, got[b"hs"]._nid), (LNK, got[b"s"]._nid))

    def test_hard_refused(self):
        self.refused(Tar().hard("h", "missing").bytes(), '"h": hard link to "missing"')
        self.refused(Tar().hard("h", "later").add("later").bytes(), '"later"')
        self.refused(Tar().dir("d").hard("h", "d").bytes(), "directory")
        self.refused(Tar().add("f").hard("f", "f").bytes(), "itself")
        self.refused(Tar().add(".wh.w").hard("h", "w").bytes(), "not in the layer")
        self.refused(Tar().add("d/f").hard("d", "d/f").bytes(), "replaces the directory")
        self.refused(Tar().hard("h", "").bytes(), "without a target")
        self.refused(Tar().sym("s", "").bytes(), "without a target")
        self.refused(Tar().sym("s", "x" * 4096).bytes(), "longer than 4095")
        self.assertEqual(self.convert(Tar().sym("s", "x" * 4095).bytes())[b"s"].target, b"x" * 4095)

    def test_many_links(self):
        t = Tar(tarfile.USTAR_FORMAT).add("f", data=b"x")
        for i in range(65600):
            t.hard(f"d/{i}", "f")
        self.assertEqual(self.convert(t.bytes())[b"f"].nlink, 65601)


class Replaced(LayerTest):
    """LY-04: the last entry wins."""

    def test_same_name(self):
        t = Tar()
        for i in range(10):
            t.add("f", data=b"%d" % i * 5000, mode=0o600 + i, uid=i)
        e = self.convert(t.bytes())[b"f"]
        self.assertEqual((e.size, e.mode, e.uid), (5000, 0o611, 9))

    def test_kinds(self):
        got = self.convert(Tar().dir("d").add("d/x").sym("d", "t").bytes())
        self.assertEqual((sorted(got), got[b"d"].type), ([b"/", b"d"], LNK))
        got = self.convert(Tar().sym("d", "t").dir("d").add("d/x").bytes())
        self.assertEqual((got[b"d"].type, b"d/x" in got), (DIR, True))
        got = self.convert(Tar().add("d").dir("d").bytes())
        # What a lower layer has there was replaced by the file first.
        self.assertEqual(got[b"d"].xattrs, {b"trusted.overlay.opaque": b"y"})
        got = self.convert(Tar().dir("d", mode=0o700).add("d/x").dir("d", mode=0o711).bytes())
        self.assertEqual((got[b"d"].mode, b"d/x" in got, got[b"d"].xattrs), (0o711, True, {}))

    def test_hard_link_outlives_its_first_name(self):
        got = self.convert(Tar().add("d/f", data=b"abc").hard("h", "d/f").add("d").bytes())
        self.assertEqual((got[b"h"].size, got[b"h"].nlink), (3, 1))

    def test_file_as_directory(self):
        self.refused(Tar().add("f").add("f/x").bytes(), '"f" is not a directory')
        self.refused(Tar().add("c", tarfile.CHRTYPE, devmajor=1).add("c/x").bytes(), "not a directory")


class Whiteouts(LayerTest):
    def test_forms(self):
        got = self.convert(Tar().dir("d").add("d/.wh.gone").add(".wh.x").add("e/.wh.y").bytes())
        for name in (b"d/gone", b"x", b"e/y"):
            e = got[name]
            self.assertEqual((e.type, e.rdev, e.mode, e.size), (CHR, (0, 0), 0, None))
        self.assertFalse(any(b".wh." in n for n in got))

    def test_same_layer_stays(self):
        for order in (0, 1):
            t = Tar()
            for step in ((0, 1) if order else (1, 0)):
                if step:
                    t.add("f", data=b"new").dir("d").add("d/x")
                else:
                    t.add(".wh.f").add(".wh.d")
            got = self.convert(t.bytes())
            self.assertEqual(got[b"f"].size, 3)
            self.assertEqual(got[b"d"].xattrs, {b"trusted.overlay.opaque": b"y"})
            self.assertIn(b"d/x", got)

    def test_opaque(self):
        t = Tar().dir("a").add("a/before").add("a/.wh..wh..opq").add("a/after").add("new/.wh..wh..opq")
        got = self.convert(t.add(".wh..wh..opq").dir("a", mode=0o700).bytes())
        for name in (b"a", b"new", b"/"):
            self.assertEqual(got[name].xattrs, {b"trusted.overlay.opaque": b"y"})
        self.assertEqual((got[b"a"].mode, b"a/before" in got, b"a/after" in got), (0o700, True, True))

    def test_metadata_ignored(self):
        t = Tar().add(".wh..wh.aufs").dir(".wh..wh.plnk").add(".wh..wh.plnk/1.2").dir("d/.wh..wh.orph").add("f")
        self.assertEqual(sorted(self.convert(t.bytes())), [b"/", b"f"])

    def test_malformed(self):
        for name in (".wh.", "a/.wh.", ".wh..", ".wh...", ".wh.a/b"):
            with self.subTest(name):
                self.refused(Tar().add(name).bytes(), "malformed whiteout")

    def test_device_zero_is_refused(self):
        self.refused(Tar().add("c", tarfile.CHRTYPE).bytes(), "character device 0/0")
        self.convert(Tar().add("c", tarfile.BLKTYPE).bytes())


class Attributes(LayerTest):
    def one(self, *a, fmt=tarfile.PAX_FORMAT, **kw):
        return self.convert(Tar(fmt).add("f", *a, **kw).bytes())[b"f"]

    def test_modes(self):
        for mode in (0, 0o777, 0o4755, 0o2711, 0o1777, 0o7777):
            self.assertEqual(self.one(mode=mode).mode, mode)
        self.assertEqual(self.convert(header(mode=b"0100755\0") + END)[b"f"].mode, 0o755)
        got = self.convert(Tar().dir("d", mode=0).add("d/f").bytes())
        self.assertEqual((got[b"d"].mode, b"d/f" in got), (0, True))

    def test_owners(self):
        for n in (0, 65534, 65536, 2**31, 2**32 - 1):
            for fmt in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
                e = self.one(fmt=fmt, uid=n, gid=n)
                self.assertEqual((e.uid, e.gid), (n, n))
        self.refused(Tar().add("f", uid=2**32).bytes(), "uid")
        self.refused(header(gid=b"\xff" * 8) + END, "gid")
        self.refused(header(uid=b"\xff" + b"\0" * 7) + END, "uid")

    def test_times(self):
        for value, want in (("-1.5", -1500000000), ("0.000000001", 1), ("8589934592.25", 8589934592250000000),
                            ("31556889864403.9999999999", 31556889864403999999999), ("-0.1", -100000000)):
            self.assertEqual(self.one(pax={"mtime": value}).mtime, want)
        self.assertEqual(self.one(fmt=tarfile.GNU_FORMAT, mtime=-7).mtime, -7 * 10**9)
        for bad in ("", "x", "1.2.3", "99999999999999999999", "--1", "1e5"):
            self.refused(pax((b"mtime", bad.encode())) + header() + END, "mtime")

    def test_devices(self):
        for kind, fmt in ((tarfile.CHRTYPE, CHR), (tarfile.BLKTYPE, stat.S_IFBLK)):
            e = self.one(kind, devmajor=4095, devminor=1048575)
            self.assertEqual((e.type, e.rdev), (fmt, (4095, 1048575)))
        self.refused(Tar().add("f", tarfile.CHRTYPE, devmajor=4096).bytes(), "major")
        self.refused(Tar().add("f", tarfile.CHRTYPE, devminor=1 << 20).bytes(), "minor")
        self.assertEqual(self.one(tarfile.FIFOTYPE).type, FIFO)
        self.assertEqual(self.one(tarfile.CONTTYPE, data=b"abc").size, 3)

    def test_unknown_types(self):
        for kind in b"AXDMNVQszZ89\x01\xff":
            with self.subTest(chr(kind)):
                self.refused(header(kind=bytes([kind])) + END, "unknown tar type")

    def test_v7_directory(self):
        got = self.convert(header(b"d/", b"\0", magic=b"", major=b"", minor=b"") + END)
        self.assertEqual(got[b"d"].type, DIR)


class Xattrs(LayerTest):
    def put(self, *pairs, name="f", kind=tarfile.REGTYPE, link=""):
        h = header(name.encode(), kind, link=link.encode())
        return self.convert(pax(*[(b"SCHILY.xattr." + k, v) for k, v in pairs]) + h + END)[name.encode()].xattrs

    def test_kept(self):
        cap = struct.pack("<5I", 0x02000001, 0x2000, 0, 0, 0)
        acl = struct.pack("<I", 2) + struct.pack("<HHI", 1, 6, 0xFFFFFFFF) + struct.pack("<HHI", 2, 4, 1000)
        pairs = [(b"security.capability", cap), (b"system.posix_acl_access", acl), (b"user.bin", b"\0=\n\xff"),
                 (b"trusted.x", b""), (b"security.selinux", b"system_u:object_r:bin_t:s0\0")]
        self.assertEqual(self.put(*pairs), dict(pairs))

    def test_dropped(self):
        self.assertEqual(self.put((b"trusted.overlay.opaque", b"y"), (b"trusted.overlay.redirect", b"/etc"),
                                  (b"system.other", b"1"), (b"com.apple.x", b"1"), (b"user.", b"1")), {})
        self.assertEqual(self.put((b"user.a", b"1"), (b"security.a", b"2"), kind=b"2", link="t"),
                         {b"security.a": b"2"})
        self.assertEqual(self.put((b"trusted.overlay.opaque", b"y"), name="d", kind=b"5"), {})

    def test_libarchive(self):
        h = pax((b"LIBARCHIVE.xattr.user.a%3db", b"AAEC/w"), (b"SCHILY.xattr.user.c", b"same"),
                (b"LIBARCHIVE.xattr.user.c", b"c2FtZQ==")) + header() + END
        self.assertEqual(self.convert(h)[b"f"].xattrs, {b"user.a=b": b"\0\1\2\xff", b"user.c": b"same"})
        for key, value in ((b"user.%", b""), (b"user.%00", b""), (b"user.a", b"*"), (b"user.a", b"A")):
            self.refused(pax((b"LIBARCHIVE.xattr." + key, value)) + header() + END, "xattr")

    def test_sizes(self):
        many = [(b"user.%d" % i, b"v" * (i % 50)) for i in range(1000)]
        self.assertEqual(self.put(*many), dict(many))
        self.assertEqual(self.put((b"user.a", b"v" * 65535)), {b"user.a": b"v" * 65535})
        big = [(b"user.%d" % i, b"v" * 60000) for i in range(4)]
        self.assertEqual(self.put(*big, name="d", kind=b"5"), dict(big))

        def no(text, *pairs):
            self.refused(pax(*[(b"SCHILY.xattr." + k, v) for k, v in pairs]) + header() + END, text)
        no("too large", (b"user.a", b"v" * 65536))
        no("too large", (b"user." + b"n" * 251, b""))
        no("256 KiB", *[(b"user.%d" % i, b"v" * 60000) for i in range(5)])
        no("twice", (b"user.a", b"1"), (b"user.a", b"2"))
        no("malformed", (b"user.a\0b", b"1"))
        no("without a name", (b"", b"1"))


class Ambiguity(LayerTest):
    """LY-13: two readers must not be able to disagree."""

    def test_sizes(self):
        data = pad(b"x" * 600)
        self.refused(pax((b"size", b"1024")) + header(size=octal(600)) + data + END, "size is 600")
        self.refused(pax((b"size", b"600")) + header(size=octal(0)) + data + END, "size is 0")
        self.convert(pax((b"size", b"600")) + header(size=octal(600)) + data + END)
        for bad in (b"-1", b"+1", b" 1", b"1 ", b"0x1", b"99999999999999999999", b"9223372036854775808", b""):
            self.refused(pax((b"size", bad)) + header() + END, "size")
        for bad in (b"-0000000001\0", b"0000000008\0\0", b"00000 00001\0", b"\xff" * 12, b"\x80" + b"\xff" * 11):
            self.refused(header(size=bad) + END, "size")
        self.assertEqual(self.convert(header(size=b"\x80" + bytes(10) + b"\x05") + pad(b"12345") + END)[b"f"].size, 5)
        self.assertEqual(self.convert(header(size=b"          5 ") + pad(b"12345") + END)[b"f"].size, 5)
        for kind in b"123456":
            self.refused(header(kind=bytes([kind]), link=b"t", size=octal(512)) + bytes(512) + END, "not a file")

    def test_two_of_a_kind(self):
        long = header(b"././@LongLink", b"L", octal(5)) + pad(b"long\0")
        klong = header(b"././@LongLink", b"K", octal(5)) + pad(b"long\0")
        self.refused(pax((b"path", b"a")) + pax((b"path", b"b")) + header() + END, "two extended")
        self.refused(pax((b"path", b"a"), (b"path", b"b")) + header() + END, "path twice")
        self.refused(pax((b"path", b"a")) + long + header() + END, "PAX and by GNU")
        self.refused(long + pax((b"path", b"a")) + header() + END, "PAX and by GNU")
        self.refused(pax((b"linkpath", b"a")) + klong + header(kind=b"2") + END, "PAX and by GNU")
        self.refused(long + long + header() + END, "two long names")
        got = self.convert(long + klong + header(kind=b"2", link=b"x") + END)
        self.assertEqual(got[b"long"].target, b"long")
        self.refused(header(b"L", b"L", octal(6)) + pad(b"lo\0ng\0") + header() + END, "NUL inside")
        self.refused(header(b"L", b"L", octal(0)) + header() + END, "empty")
        for dangling in (long, klong, pax((b"path", b"a"))):
            self.refused(dangling + END, "without its entry")

    def test_records(self):
        for bad in (b"8 path=a\n", b"12 path=ab\n", b"path=a\n", b"10path=ab\n", b"10 path_ab\n", b"6 =aa\n",
                    b"99999999 path=a\n", b"0 path=a\n", b"10 path=ab", b"-1 path=a\n", b"5 \n\n\n", b"\0\0\0\0"):
            with self.subTest(bad):
                self.refused(pax(bad) + header() + END, "malformed extended header")
        self.assertIn(b"ok", self.convert(pax((b"path", b"ok"), (b"comment", b""), (b"vendor.key", b"?")) + header() + END))
        self.refused(pax((b"hdrcharset", b"KOI8-R")) + header() + END, "character set")
        self.convert(pax((b"hdrcharset", b"BINARY"), (b"path", b"\xff")) + header() + END)

    def test_global(self):
        self.convert(pax((b"comment", b"git"), kind=b"g") + header() + END)
        for key in (b"path", b"size", b"uid", b"mtime", b"SCHILY.xattr.user.a", b"GNU.sparse.offset"):
            self.refused(pax((key, b"1"), kind=b"g") + header() + END, "global header")

    def test_headers(self):
        self.refused(header(checksum=b"000000\0 ") + END, "not a tar header")
        self.refused(header(magic=b"ustar\x0001") + END, "not a tar header")
        self.refused(header(magic=b"USTAR\x0000") + END, "not a tar header")
        self.refused(header() + b"garbage".ljust(512) + END, "not a tar header")
        self.refused(header() + bytes(512) + header(b"hidden") + END, "after its end mark")
        self.refused(header() + END + b"x", "after its end mark")
        self.convert(header() + bytes(512))
        self.convert(header() + END + bytes(10000))
        self.convert(END)

    def test_header_limit(self):
        self.refused(header(b"P", b"x", octal((1 << 20) + 1)) + END, "limit of 1048576")
        self.refused(header(b"P", b"L", octal(1 << 32)) + END, "limit of 1048576")
        self.refused(header(b"P", b"x", b"\x80" + b"\x7f" * 11) + END, "malformed size")


class Sparse(LayerTest):
    def field(self, *pairs):
        return b"".join(octal(a) + octal(b) for a, b in pairs)

    def gnu(self, real, pairs, stored, more=b"", size=None):
        tail = self.field(*pairs).ljust(96, b"\0") + (b"\1" if more else b"\0") + octal(real)
        return header(kind=b"S", magic=b"ustar  \0", tail=tail,
                      size=octal(len(stored) if size is None else size)) + more + pad(stored) + END

    def pax1(self, real, text, stored, extra=(), major=b"1"):
        body = pad(text) + stored
        return pax((b"GNU.sparse.major", major), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", b"f"),
                   (b"GNU.sparse.realsize", b"%d" % real), *extra) + header(b"x", size=octal(len(body))) + pad(body) + END

    def test_good(self):
        want = hashlib.sha256(bytes(5000) + b"a" * 600 + bytes(100000 - 5600)).hexdigest()
        ext = (self.field((5300, 100), (5400, 200), (100000, 0)).ljust(504, b"\0")).ljust(512, b"\0")
        for blob in (self.gnu(100000, [(5000, 600), (100000, 0)], b"a" * 600),
                     self.gnu(100000, [(5000, 100), (5100, 100), (5200, 50), (5250, 50)], b"a" * 600, ext),
                     self.pax1(100000, b"2\n5000\n600\n100000\n0\n", b"a" * 600),
                     pax((b"GNU.sparse.size", b"100000"), (b"GNU.sparse.map", b"5000,600,100000,0"))
                     + header(size=octal(600)) + pad(b"a" * 600) + END,
                     pax((b"GNU.sparse.size", b"100000"), (b"GNU.sparse.numblocks", b"1"),
                         (b"GNU.sparse.offset", b"5000"), (b"GNU.sparse.numbytes", b"600"))
                     + header(size=octal(600)) + pad(b"a" * 600) + END):
            e = self.convert(blob)[b"f"]
            self.assertEqual((e.size, e.sha256), (100000, want))

    def test_claims_cost_nothing(self):
        e = self.run_tool(self.pax1(1 << 40, b"1\n549755813888\n5\n", b"hello"))
        self.assertEqual((e.returncode, e.stderr), (0, ""))
        self.assertLess(os.stat(self.path("image")).st_blocks * 512, 1 << 20)
        self.refused(self.pax1((1 << 40) + 1, b"0\n", b""), "larger than the limit of 1048576 MiB")
        self.refused(self.pax1((1 << 63) - 1, b"0\n", b""), "larger than the limit")
        self.refused(self.gnu(1 << 32, [((1 << 33) - 1, 1)], b"a"), "past the end")

    def test_refused(self):
        for blob, text in (
                (self.gnu(10000, [(5000, 600), (5100, 10)], b"a" * 610), "unordered or overlaps"),
                (self.gnu(10000, [(5000, 600), (100, 10)], b"a" * 610), "unordered or overlaps"),
                (self.gnu(5100, [(5000, 600)], b"a" * 600), "past the end"),
                (self.gnu(10000, [(5000, 600)], b"a" * 512), "add up"),
                (self.gnu(10000, [(5000, 600)], b"a" * 1024), "add up"),
                (self.gnu(10000, [(0, 10)], b"a" * 10, bytes(504) + b"\1" + bytes(7)), "empty extension"),
                (self.pax1(100, b"300\n" + b"0\n" * 254, b""), "longer than the entry"),
                (self.pax1(100, b"9999999999\n", b""), "262144"),
                (self.pax1(100, b"-1\n", b""), "malformed number"),
                (self.pax1(100, b"x" * 600, b""), "malformed number"),
                (self.pax1(100, b"1\n0\n10\n", b"a" * 9), "add up"),
                (self.pax1(100, b"1\n18446744073709551615\n10\n", b"a" * 10), "past the largest"),
                (self.pax1(100, b"0\n", b"", major=b"2"), "sparse format 2.0"),
                (self.pax1(100, b"0\n", b"", [(b"GNU.sparse.map", b"0,1")]), "contradicts"),
                (self.pax1(100, b"0\n", b"", [(b"SCHILY.realsize", b"5")]), "SCHILY.realsize"),
                (pax((b"GNU.sparse.size", b"9"), (b"GNU.sparse.map", b"1,2,3")) + header() + END, "malformed"),
                (pax((b"GNU.sparse.numbytes", b"9")) + header() + END, "malformed"),
                (pax((b"GNU.sparse.offset", b"9")) + header() + END, "malformed"),
                (pax((b"GNU.sparse.name", b"n")) + header() + END, "contradicts"),
                (pax((b"GNU.sparse.size", b"9")) + header(kind=b"5") + END, "contradicts"),
                (header(kind=b"S") + END, "another format")):
            with self.subTest(text):
                self.refused(blob, text)


class Limits(LayerTest):
    def test_each(self):
        t = Tar(tarfile.USTAR_FORMAT)
        for i in range(2000):
            t.add(f"d/{i}", data=b"x" * 1000)
        blob = t.bytes()
        self.convert(blob, limits="0,0,0,2000,0,0")
        for limits, text in (("1000000", "limit of 0 MiB uncompressed"), ("0,4000000", "limit of 3 MiB"),
                             ("0,0,999", "limit of 0 MiB"), ("0,0,0,1999", "limit of 1999 entries"),
                             ("0,0,0,0,300000", "limit of 0 MiB of memory")):
            self.refused(blob, text, limits=limits)

    def test_memory_is_bounded(self):
        """A million empty files: within the default limits or refused, and under 256 MiB."""
        path = self.path("many.tar")
        blocks = [header(b"dir/%03d" % j) for j in range(1000)]
        with open(path, "wb") as f:  # "dir" is patched per thousand: the sum of its digits stays
            for i in range(1100):
                name = b"%c%c%c" % (100 + i // 33 % 33, 105 - i // 33 % 33 + i % 33, 114 - i % 33)
                f.write(b"".join(name + b[3:] for b in blocks))
            f.write(END)
        self.peak_of(path, "tar", "limit of 1048576 entries")

    def test_deep(self):
        # Links half-way make directories deeper than any one name could say.
        t = Tar().dir("d/" * 1000).sym("d/" * 1000 + "m", "d/" * 1500)
        t.sym("d/" * 1000 + "m/" + "d/" * 400 + "n", "d/" * 1500)
        self.refused(t.dir("d/" * 1000 + "m/" + "d/" * 400 + "n/" + "d/" * 20).bytes(), "deeper than 4096")

    def test_zero_bomb(self):
        """Gigabytes of zeros end at the limit, and what was written by then takes no space."""
        if not os.path.exists("/usr/bin/zstd"):
            self.skipTest("no zstd program")
        cmd = f"(cat {self.path('head')}; head -c 1700000000 /dev/zero) | zstd -q -1 -o {self.path('bomb')}"
        with open(self.path("head"), "wb") as f:
            f.write(header(size=octal(8 << 29)))
        subprocess.run(["sh", "-c", cmd], check=True)
        self.peak_of(self.path("bomb"), "zstd", "limit of 1100 times")
        self.assertLess(os.stat(self.path("image")).st_blocks * 512, 2 << 20)
        self.refused(self.path("bomb"), "limit of 1536 MiB uncompressed", "zstd", "1610612736,0,0,0,0,100000000")

    def test_window(self):
        if not os.path.exists("/usr/bin/zstd"):
            self.skipTest("no zstd program")
        blob = subprocess.run(["zstd", "-q", "-c", "--ultra", "-22", "--long=27"], check=True, capture_output=True,
                              input=header() + END).stdout
        self.convert(blob, "zstd")
        # A frame that asks for 2 GiB: descriptor without single-segment flag, window exponent 21.
        self.refused(b"\x28\xb5\x2f\xfd\x00\xa8" + b"\x01\0\0", "too much memory", "zstd")

    def peak_of(self, path, codec, text):
        p = subprocess.run([sys.executable, "-c", """
import resource, subprocess, sys
p = subprocess.run(sys.argv[1:], capture_output=True, text=True)
print(p.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, p.stderr)
""", TOOL, codec, path, self.path("image")],
                           capture_output=True, text=True, timeout=300, check=True)
        code, kib, message = p.stdout.split(" ", 2)
        self.assertEqual(code, "1", p.stdout)
        self.assertIn(text, message)
        with open(TOOL, "rb") as f:
            sanitized = b"__asan_init" in f.read()
        if sanitized:
            print("SKIP memory bar: built with a sanitizer", end=" ")
            return
        self.assertLess(int(kib), 256 << 10)


class Streams(LayerTest):
    """LY-18: truncation, flips, garbage; nothing wrong is ever converted."""

    def sample(self):
        return Tar().dir("d").add("d/f", data=os.urandom(700)).sym("s", "d/f").bytes()[:5632]

    def test_truncated_everywhere(self):
        tar = self.sample()
        end = len(tar.rstrip(b"\0"))
        for blob, codec, whole in ((tar, "tar", 4096), (gzip.compress(tar), "gzip", None), (self.zstd(tar), "zstd", None)):
            good = whole or len(blob)
            step = 37 if codec == "tar" else 5
            for n in list(range(0, min(good, len(blob)), step)) + [good - 1]:
                if codec == "tar" and n > end:
                    break
                with self.subTest(codec=codec, at=n):
                    self.refused(blob[:n], "truncated" if codec != "zstd" or n else "", codec)

    def test_no_end_mark(self):
        """As umoci insert writes them; what is cut anywhere else is refused."""
        tar = Tar().dir("d").add("d/f", data=b"1" * 700).bytes()
        self.assertEqual(sorted(self.convert(tar[:2048])), [b"/", b"d", b"d/f"])
        self.assertEqual(sorted(self.convert(gzip.compress(tar[:512]), "gzip")), [b"/", b"d"])
        self.refused(tar[:1536], "truncated")
        self.refused(pax((b"path", b"long")), "truncated")

    def zstd(self, data):
        return subprocess.run(["zstd", "-q", "-c", "--check"], input=data, capture_output=True, check=True).stdout

    def test_flips(self):
        """With a checksum in the stream, no flipped bit converts to anything but the same archive."""
        tar = self.sample()
        good = self.run_tool(tar).stdout
        for blob, codec in ((gzip.compress(tar), "gzip"), (self.zstd(tar), "zstd")):
            for n in range(0, len(blob), max(1, len(blob) // 60)):
                flipped = bytearray(blob)
                flipped[n] ^= 1 << n % 8
                p = self.run_tool(bytes(flipped), codec)
                with self.subTest(codec=codec, at=n):
                    if p.returncode == 0:  # e.g. gzip's time stamp
                        self.assertEqual(p.stdout, good)
                    else:
                        self.assertEqual((p.returncode, p.stderr.count("\n")), (1, 1))

    def test_garbage_after(self):
        tar = self.sample()
        for garbage in (b"G", b"garbage!", b"\x1f\x8b", b"\0", bytes(100)):
            self.refused(gzip.compress(tar) + garbage, "gzip stream", "gzip")
            self.refused(self.zstd(tar) + garbage, "zstd stream", "zstd")

    def test_wrong_codec(self):
        tar = self.sample()
        self.refused(gzip.compress(tar), "layer is gzip although its media type says plain tar")
        self.refused(gzip.compress(tar), "layer is gzip although its media type says zstd", "zstd")
        self.refused(self.zstd(tar), "layer is zstd although its media type says gzip", "gzip")
        self.refused(tar, "gzip stream is corrupt", "gzip")
        self.refused(tar, "zstd stream is corrupt", "zstd")
        self.refused(b"", "truncated", "gzip")
        self.refused(b"", "truncated", "tar")
        self.refused(b"BZh91AY&SY" + bytes(600), "not a tar header")

    def test_full_disk(self):
        p = subprocess.run(["sh", "-c", "ulimit -f 8; trap '' XFSZ; exec \"$@\"", "sh",
                            TOOL, "tar",
                            self.big(), self.path("image")], capture_output=True, text=True)
        self.assertEqual(p.returncode, 1)
        self.assertIn("cannot write the layer image", p.stderr)

    def big(self):
        with open(self.path("big.tar"), "wb") as f:
            f.write(Tar().add("f", data=os.urandom(3 << 20)).bytes())
        return self.path("big.tar")


if __name__ == "__main__":
    unittest.main(verbosity=2, argv=sys.argv)
