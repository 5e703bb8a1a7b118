# SPDX-License-Identifier: Apache-2.0
"""An independent, strict reader of uncompressed EROFS images: the tests' own oracle.

listing(path) returns {name: Entry}; any broken rule of the format raises Broken. Rules checked beyond
parsing: superblock checksum, sorted directories, "." and "..", link counts, inline tails inside one block,
regular files never tail-packed (DAX), no two files sharing data blocks, everything inside the image.
"""
import hashlib
import struct
import zlib

BLOCK = 4096
PREFIX = {1: b"user.", 2: b"system.posix_acl_access", 3: b"system.posix_acl_default",
          4: b"trusted.", 6: b"security."}
DIRENT_TYPE = {0o100000: 1, 0o040000: 2, 0o020000: 3, 0o060000: 4, 0o010000: 5, 0o140000: 6,
               0o120000: 7}


class Broken(Exception):
    pass


def need(cond, text):
    if not cond:
        raise Broken(text)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc


class Entry:
    """What a name leads to; equal entries mean equal files."""

    def __init__(self, **fields):
        self.__dict__.update(fields)

    def key(self):
        return {k: v for k, v in self.__dict__.items() if not k.startswith("_")}


class Image:
    def __init__(self, path):
        with open(path, "rb") as f:
            self.data = f.read()
        need(len(self.data) % BLOCK == 0, "size is not a multiple of 4096")
        sb = self.data[1024:1152]
        need(len(sb) == 128, "no superblock")
        (magic, crc, self.compat, bits, _, self.root, self.inos) = struct.unpack_from("<IIIBBHQ", sb)
        self.blocks, self.meta, _ = struct.unpack_from("<III", sb, 36)
        self.uuid = sb[48:64]
        self.incompat, = struct.unpack_from("<I", sb, 80)
        need(magic == 0xE0F5E1E2 and bits == 12, "magic or block size")
        need(self.compat == 3 and self.incompat in (0, 4), "feature flags")
        need(crc == crc32c(self.data[1024:1028] + bytes(4) + self.data[1032:BLOCK]), "checksum")
        need(self.blocks * BLOCK == len(self.data), "block count")
        self.used = {}
        self.links = {}
        self.inodes = {}

    def piece(self, at, n):
        need(at + n <= len(self.data), "points past the end")
        return self.data[at:at + n]

    def claim(self, nid, block, count):
        for b in range(block, block + count):
            need(0 < b < self.blocks, "block out of range")
            need(self.used.setdefault(b, nid) == nid, "block used twice")

    def xattrs(self, at, icount):
        out = {}
        if not icount:
            return out, 0
        size = 12 + 4 * (icount - 1)
        body = self.piece(at, size)
        need(body[:12] == bytes(12), "xattr header")
        p = 12
        while p < size:
            nlen, index, vlen = struct.unpack_from("<BBH", body, p)
            name = PREFIX[index] + body[p + 4:p + 4 + nlen]
            need(name not in out, "xattr twice")
            out[name] = body[p + 4 + nlen:p + 4 + nlen + vlen]
            p += (4 + nlen + vlen + 3) & ~3
        need(p == size, "xattr size")
        return out, size

    def content(self, nid, layout, size, union, tail_at):
        if layout == 0:
            self.claim(nid, union, -(-size // BLOCK))
            return self.piece(union * BLOCK, size)
        if layout == 2:
            whole, rest = divmod(size, BLOCK)
            self.claim(nid, union, whole)
            need(rest and tail_at % BLOCK + rest <= BLOCK, "inline tail crosses a block")
            return self.piece(union * BLOCK, whole * BLOCK) + self.piece(tail_at, rest)
        need(layout == 4 and self.incompat == 4 and union < 32, "layout")
        bits = 12 + union
        tail_at = (tail_at + 3) & ~3
        out = []
        for i in range((size + (1 << bits) - 1) >> bits):
            block, = struct.unpack("<I", self.piece(tail_at + 4 * i, 4))
            n = min(1 << bits, size - (i << bits))
            if block == 0xFFFFFFFF:
                out.append(bytes(n))
            else:
                self.claim(nid, block, -(-n // BLOCK))
                out.append(self.piece(block * BLOCK, n))
        return b"".join(out)

    def inode(self, nid):
        if nid in self.inodes:
            return self.inodes[nid]
        at = self.meta * BLOCK + nid * 32
        need(nid and at % BLOCK + 64 <= BLOCK, "inode straddles blocks")
        raw = self.piece(at, 64)
        fmt, icount, mode, _, size, union, ino, uid, gid, mtime, nsec, nlink = struct.unpack(
            "<HHHHQIIIIqII16x", raw)
        need(fmt & 1 and fmt < 16, "inode version")
        need(0 < ino <= self.inos and nsec < 10**9, "inode number or time")
        xattrs, xsize = self.xattrs(at + 64, icount)
        kind = mode & 0o170000
        layout = fmt >> 1
        e = Entry(type=kind, mode=mode & 0o7777, uid=uid, gid=gid, mtime=mtime * 10**9 + nsec,
                  xattrs=xattrs, size=None, sha256=None, target=None, rdev=None, nlink=nlink,
                  _nid=nid, _ino=ino, _layout=layout)
        if kind == 0o100000:
            need(layout in (0, 4), "regular file is tail-packed")
            e.size = size
            data = self.content(nid, layout, size, union, at + 64 + xsize)
            e.sha256 = hashlib.sha256(data).hexdigest()
            e._crc = zlib.crc32(data)
        elif kind == 0o120000:
            e.target = self.content(nid, layout, size, union, at + 64 + xsize)
        elif kind == 0o040000:
            e._dir = self.content(nid, layout, size, union, at + 64 + xsize)
        elif kind in (0o020000, 0o060000):
            e.rdev = (union >> 8 & 0xFFF, union & 0xFF | union >> 12 & 0xFFF00)
        else:
            need(kind == 0o010000, "file type")
        self.inodes[nid] = e
        return e

    def entries(self, data):
        for start in range(0, len(data), BLOCK):
            block = data[start:start + BLOCK]
            first, = struct.unpack_from("<H", block, 8)
            need(first % 12 == 0 and first > 0, "first name offset")
            heads = [struct.unpack_from("<QHB", block, i) for i in range(0, first, 12)]
            for i, (nid, off, kind) in enumerate(heads):
                end = heads[i + 1][1] if i + 1 < len(heads) else len(block)
                yield block[off:end].split(b"\0")[0] if i + 1 == len(heads) else block[off:end], nid, kind

    def walk(self):
        out = {}
        todo = [(b"", self.root, self.root)]
        inos = set()
        while todo:
            path, nid, parent = todo.pop()
            e = self.inode(nid)
            out[path or b"/"] = e
            self.links[nid] = self.links.get(nid, 0) + 1
            inos.add((nid, e._ino))
            if e.type != 0o040000:
                continue
            need(self.links[nid] == 1, "directory with two parents")
            last, subdirs, dots = None, 0, {}
            for name, child, kind in self.entries(e._dir):
                need(name and b"/" not in name and len(name) <= 255, "name")
                need(last is None or last < name, "directory is not sorted")
                last = name
                c = self.inode(child)
                need(DIRENT_TYPE[c.type] == kind, "dirent type")
                if name in (b".", b".."):
                    dots[name] = child
                    continue
                subdirs += c.type == 0o040000
                todo.append((path + b"/" + name if path else name, child, nid))
            need(dots == {b".": nid, b"..": parent}, "dots")
            need(e.nlink == 2 + subdirs, "directory link count")
        for nid, count in self.links.items():
            e = self.inodes[nid]
            need(e.type == 0o040000 or e.nlink == count, "link count")
        need(len(inos) == len({i for _, i in inos}) == self.inos, "inode numbers")
        return out


def listing(path):
    return Image(path).walk()
