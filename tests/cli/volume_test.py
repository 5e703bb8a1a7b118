#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`run -v`: what a guest keeps on a volume, through orderly ends and kills; who may use one; and what
snapshots and clones have of volumes."""
import glob
import hashlib
import io
import json
import os
import signal
import subprocess
import tarfile
import time

from program import Case, PATIENCE
from images import docker_archive, run_tests

MIB = 1 << 20
os.environ["PATH"] += ":/usr/sbin:/sbin"


def clean(path):
    """Is the file system whole, without a journal to replay?"""
    p = subprocess.run(["e2fsck", "-fn", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return p.returncode == 0 and b"needs_recovery" not in p.stdout, p.stdout.decode()


def children(parent):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as f:
                fields = f.read().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[1] == str(parent) and fields[0] != "Z":
            found.append(int(pid))
    return found


def is_alive(pid):
    """Until its last thread is gone: then its files are closed, and its locks free."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            state = f.read().rpartition(")")[2].split()[0]
        return state != "Z" or len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


class Volumes(Case):
    def volume(self, name):
        return f"{self.home}/volumes/{name}.img"

    def image(self, name="disk.img", size=16 * MIB):
        path = f"{self.dir}/{name}"
        subprocess.run(["mkfs.ext4", "-q", path, f"{size // 1024}k"], check=True,
                       stdout=subprocess.DEVNULL)
        return path

    def assert_clean(self, path):
        good, said = clean(path)
        self.assertTrue(good, said)

    def shell(self, volume, script, *options, **more):
        return self.run_vm(*options, "-v", volume, "busybox", "sh", "-c", script, **more)

    def start_shell(self, volume, script):
        p = self.start("run", "-i", "-v", volume, "busybox", "sh", "-c", script,
                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(self.end, p)
        return p

    def kill_all(self, p):
        """SIGKILL to the program and, before that, to the process of its VM; all is over then."""
        workers = children(p.pid)
        for pid in workers + [p.pid] * (p.poll() is None):
            os.kill(pid, signal.SIGKILL)
        p.wait(PATIENCE)
        while any(is_alive(pid) for pid in workers):
            time.sleep(0.01)

    def end(self, p):
        self.kill_all(p)
        for stream in p.stdin, p.stdout, p.stderr:
            stream.close()

    def test_kept(self):
        """Without any fsync: an orderly end is enough. Folders are made; the rest is as before."""
        self.assertEqual(self.shell("kept:/a/b//c/", "echo hello >/a/b/c/f; mkdir /a/b/c/d; ls /a/b"),
                         (0, b"c\n", b""))
        self.assert_clean(self.volume("kept"))
        self.assertEqual(self.shell("kept:/x:rw", "cat /x/f; echo more >>/x/f; exit 7"),
                         (7, b"hello\n", b""))
        self.assert_clean(self.volume("kept"))
        self.assertEqual(self.shell("kept:/x", "cat /x/f; grep ' /x ' /proc/mounts", "--cold")[:2],
                         (0, b"hello\nmore\n/dev/vda /x ext4 rw,relatime 0 0\n"))
        self.assertEqual(self.run_vm("-v", "kept:/x", "busybox", "nosuch")[0], 127)
        self.assert_clean(self.volume("kept"))
        self.assertLess(os.stat(self.volume("kept")).st_blocks * 512, 4 * MIB)

    def test_owner(self):
        """A new volume belongs to the user that its folder in the image belongs to."""
        archive = f"{self.dir}/image.tar"
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as t:
            t.add("/bin/busybox", "bin/sh")
            folder = tarfile.TarInfo("data")
            folder.type, folder.mode, folder.uid, folder.gid = tarfile.DIRTYPE, 0o2750, 1000, 1001
            t.addfile(folder)
        docker_archive(archive, [raw.getvalue()])
        for volume, out in (("own:/data", b"1000:1001 2750\n"), ("own:/data", b"1000:1001 2750\n"),
                            ("own:/other", b"1000:1001 2750\n"), ("own2:/other", b"0:0 755\n")):
            path = volume.split(":")[1]
            self.assertEqual(self.run_vm("-v", volume, f"docker-archive:{archive}", "sh", "-c",
                                         f"stat -c '%u:%g %a' {path}")[:2], (0, out), volume)
        self.assertEqual(self.run_vm("-u", "1000:1001", "-v", "own:/data", f"docker-archive:{archive}",
                                     "sh", "-c", "echo mine >/data/f"), (0, b"", b""))
        self.assertEqual(self.shell("own:/x", "chmod 700 /x; ls -n /x/f | cut -d' ' -f1")[0], 0)
        self.assertEqual(self.run_vm("-v", "own:/data", f"docker-archive:{archive}", "sh", "-c",
                                     "stat -c %a /data; cat /data/f")[:2], (0, b"700\nmine\n"))

    def test_read_only(self):
        path = self.image()
        self.assertEqual(self.shell(f"{path}:/x", "echo hello >/x/f")[0], 0)
        with open(path, "rb") as f:
            before = hashlib.sha256(f.read()).digest()
        code, out, err = self.shell(f"{path}:/x:ro", "cat /x/f; echo no >/x/f; blockdev --setrw /dev/vda;"
                                    "dd if=/dev/zero of=/dev/vda bs=4096 count=1 conv=fsync")
        self.assertEqual((code != 0, out), (True, b"hello\n"), err)
        self.assertIn(b"Read-only file system", err)
        with open(path, "rb") as f:
            self.assertEqual(hashlib.sha256(f.read()).digest(), before)
        os.chmod(path, 0o400)
        self.assertEqual(self.shell(f"{path}:/x:ro", "cat /x/f"), (0, b"hello\n", b""))

    def test_several(self):
        args = []
        for i in range(16):
            args += ["-v", f"several-{i}:/v/{i}"]
        code, out, err = self.run_vm(*args, "busybox", "sh", "-c", "for i in $(seq 0 15); do"
                                     " echo $i >/v/$i/me; done; df /v/* | grep -c ^/dev/vd")
        self.assertEqual((code, out), (0, b"16\n"), err)
        args = [x for i in range(16) for x in ("-v", f"several-{15 - i}:/v/{i}")]
        code, out, err = self.run_vm(*args, "busybox", "sh", "-c", "cat /v/0/me /v/5/me /v/15/me")
        self.assertEqual((code, out), (0, b"15\n10\n0\n"), err)
        self.assert_clean(self.volume("several-15"))

    def test_discard(self):
        """What the guest frees and trims, the host gets back."""
        path = self.image(size=64 * MIB)
        code, _, err = self.shell(f"{path}:/x", "dd if=/dev/urandom of=/x/f bs=1M count=40; sync")
        self.assertEqual(code, 0, err)
        used = os.stat(path).st_blocks * 512
        code, _, err = self.shell(f"{path}:/x", "rm /x/f; sync; fstrim /x")
        self.assertEqual(code, 0, err)
        self.assertLess(os.stat(path).st_blocks * 512, used - 35 * MIB)
        self.assert_clean(path)

    def test_in_the_background(self):
        """`stop` and `rm -f` end the command, not the disk."""
        for how, stop in enumerate((("stop",), ("stop", "-t", "1"), ("rm", "-f"))):
            trap = "trap '' TERM;" if how else ""
            code, _, err = self.call("run", "-d", "--name", f"box{how}", "-v", "back:/x", "busybox", "sh",
                                     "-c", f"{trap} echo {how} >>/x/f; while :; do sleep 1; done")
            self.assertEqual(code, 0, err)
            self.assertEqual(self.call("exec", f"box{how}", "sh", "-c", "until [ $(wc -l </x/f) = "
                                       f"{how + 1} ]; do sleep 0.1; done; echo {how} >/x/last")[0], 0)
            self.assertEqual(self.call(*stop, f"box{how}")[0], 0)
            self.assert_clean(self.volume("back"))
        self.assertEqual(self.shell("back:/x", "cat /x/f /x/last"), (0, b"0\n1\n2\n2\n", b""))

    # ---- kills ----

    def numbers_survive(self, volume, path, kill_after):
        """Each number that the guest printed was synced before: it is there after a SIGKILL."""
        p = self.start_shell(volume, "i=$(cat /x/last 2>/dev/null || echo 0); while :; do i=$((i+1));"
                             "head -c 50000 /dev/urandom >/x/$i; sha256sum /x/$i >>/x/sums;"
                             "echo $i >/x/last; sync; echo $i; done")
        last = 0
        end = time.monotonic() + kill_after
        while last == 0 or time.monotonic() < end:
            last = int(p.stdout.readline() or self.fail(p.stderr.read()))
        self.kill_all(p)
        last = max([last] + [int(n) for n in p.stdout.read().split(b"\n")[:-1] if n])
        p.wait(PATIENCE)
        code, out, err = self.shell(volume, f"head -n {last} /x/sums | sha256sum -c >/tmp/r && "
                                    f"grep -c OK /tmp/r; [ $(cat /x/last) -ge {last} ] && echo yes;"
                                    "rm -f /x/[0-9]*0")
        self.assertEqual((code, out.split()[-1:]), (0, [b"yes"]), (out, err))
        self.assert_clean(path)
        return last

    def test_killed(self):
        path = self.image(size=64 * MIB)
        for kill_after in (0, 0.3, 0.7):
            os.truncate(path, 0)
            path = self.image(size=64 * MIB)
            self.assertGreater(self.numbers_survive(f"{path}:/x", path, kill_after), 0)

    def test_killed_then_read_only(self):
        """The journal wants to be replayed, which a read-only disk cannot have: said so, not ignored."""
        p = self.start_shell("dirty:/x", "echo hello >/x/f; sync; echo ok; cat")
        self.assertEqual(p.stdout.readline(), b"ok\n")
        self.kill_all(p)
        self.refused("run", "-v", "dirty:/x:ro", "busybox", "true",
                     words=["volume for /x", "use it once without :ro"])
        self.assertEqual(self.shell("dirty:/x", "cat /x/f"), (0, b"hello\n", b""))
        self.assertEqual(self.shell("dirty:/x:ro", "cat /x/f"), (0, b"hello\n", b""))

    def test_host_fails(self):
        """A file that is cut short under a VM: I/O errors in the guest, one line on the host."""
        path = self.image()
        self.assertEqual(self.shell(f"{path}:/x", "head -c 8000000 /dev/zero >/x/f")[0], 0)
        p = self.start_shell(f"{path}:/x", "echo ok; read x; cat /x/f >/dev/null; cat /x/f >/dev/null;"
                             "echo alive")
        self.assertEqual(p.stdout.readline(), b"ok\n")
        os.truncate(path, 2 * MIB)
        out, err = p.communicate(b"\n", timeout=PATIENCE)
        self.assertIn(b"alive\n", out)
        ours = [l for l in err.decode().splitlines() if l.startswith("supermachine: ")]
        self.assertEqual(sum("the guest sees an I/O error" in l for l in ours), 1, err)
        self.assertIn(path, ours[0])

    # ---- who may use one ----

    def test_in_use(self):
        p = self.start_shell("used:/x", "echo ok; cat")
        self.assertEqual(p.stdout.readline(), b"ok\n")
        for how in "", ":ro":
            said = self.refused("run", "-v", f"used:/x{how}", "busybox", "true",
                                words=[self.volume("used"), "is in use by process "])
            pid = int(said.partition("by process ")[2].split(",")[0].split()[0])
            self.assertIn(pid, children(p.pid))  # the VM's process
        self.refused("volume", "rm", "used", words=["is in use"])
        p.communicate(timeout=PATIENCE)
        self.assertEqual(p.returncode, 0)
        readers = [self.start_shell("used:/x:ro", "echo ok; cat") for _ in range(2)]
        for p in readers:
            self.assertEqual(p.stdout.readline(), b"ok\n", p)
        self.refused("run", "-v", "used:/x", "busybox", "true", words=["is in use"])
        for p in readers:
            p.communicate(timeout=PATIENCE)
            self.assertEqual(p.returncode, 0)
        self.refused("run", "-v", "used:/x", "-v", "used:/y", "busybox", "true", words=["is in use"])

    def test_bad_sources(self):
        path = f"{self.dir}/file"
        self.refused("run", "-v", f"{path}:/x", "busybox", "true", words=[path, "No such file"])
        for size, word in ((0, "is empty"), (1000, "not a multiple of 512")):
            open(path, "w").close()
            os.truncate(path, size)
            self.refused("run", "-v", f"{path}:/x", "busybox", "true", words=[path, word])
        os.truncate(path, MIB)
        self.refused("run", "-v", f"{path}:/x", "busybox", "true",
                     words=["volume for /x", "no ext4 file system"])
        for bad in "a", "./x", "a b", "../x":
            self.refused("run", "-v", f"{bad}:/x", "busybox", "true", words=[f'"{bad}" cannot be a volume'])
        if os.getuid() != 0:
            os.chmod(path, 0o400)
            self.refused("run", "-v", f"{path}:/x", "busybox", "true", words=[path, ":ro"])
        self.assertEqual(glob.glob(f"{self.home}/volumes/a*"), [])

    def test_bad_paths(self):
        for bad in "x", "./x":
            self.refused("run", "-v", f"name:{bad}", "busybox", "true", words=["must begin with /"])
        for bad in "name", "name:", ":/x", "name:/x:", "name:/x:rx", "name:/x:ro:ro":
            self.refused("run", "-v", bad, "busybox", "true", words=["SOURCE:PATH"])
        for bad in "/", "//", "/a/../b", "/.", "/a/" + "x" * 1100:
            self.refused("run", "-v", f"name:{bad}", "busybox", "true", words=["volume"])
        self.refused("run", "-v", "name:/x", "-v", "other:/x/", "busybox", "true",
                     words=["two volumes are to be at /x"])
        self.refused("run", "-v", "name:/bin/busybox/x", "busybox", "true",
                     words=["volume for /bin/busybox/x", "Not a directory"])
        many = [x for i in range(17) for x in ("-v", f"many-{i}:/v{i}")]
        self.refused("run", *many, "busybox", "true", words=["more than 16 volumes"])

    # ---- snapshots ----

    def snapshots(self):
        return set(os.listdir(f"{self.home}/snapshots"))

    def test_snapshots(self):
        """One per set of disks; nothing of a disk is in it; none is used with other disks."""
        self.home = self.dir + "/store"
        marker = os.urandom(32)
        path = self.image(size=24 * MIB)
        with open(path, "r+b") as f:  # the boot block, which is looked at for partitions
            f.write(marker)
        self.assertEqual(self.run_vm("busybox", "true")[0], 0)
        plain = self.snapshots()
        self.assertEqual(self.shell(f"{path}:/x", "echo first >/x/f")[0], 0)
        with_disk = self.snapshots() - plain
        self.assertEqual(len(with_disk), 1)
        folder = f"{self.home}/snapshots/{with_disk.pop()}"
        with open(f"{folder}/ram", "rb") as f:
            self.assertNotIn(marker, f.read())
        with open(f"{folder}/manifest.json") as f:
            self.assertEqual(json.load(f)["volumes"], 1)

        before = self.snapshots()
        other = self.image("other.img", 24 * MIB)  # as large, with other contents: the same snapshot
        self.assertEqual(self.shell(f"{other}:/x", "ls /x"), (0, b"lost+found\n", b""))
        self.assertEqual(self.shell(f"{path}:/x", "cat /x/f"), (0, b"first\n", b""))
        self.assertEqual(self.snapshots(), before)
        self.assertEqual(self.shell(f"{path}:/x:ro", "cat /x/f"), (0, b"first\n", b""))
        larger = self.image("larger.img", 25 * MIB)
        self.assertEqual(self.shell(f"{larger}:/x", "ls /x"), (0, b"lost+found\n", b""))
        self.assertEqual(len(self.snapshots() - before), 2)

        without = f"snapshot:{self.home}/snapshots/{plain.pop()}"
        self.refused("run", "-v", f"{path}:/x", without, "true", words=["volumes cannot be changed"])
        self.refused("run", f"snapshot:{folder}", "true", words=["volumes cannot be changed"])
        self.refused("run", "-v", f"{larger}:/x", f"snapshot:{folder}", "true",
                     words=["a volume has another size"])
        self.assertEqual(self.run_vm("-v", f"{path}:/y", f"snapshot:{folder}", "cat", "/y/f"),
                         (0, b"first\n", b""))

    def ok(self, *args):
        code, out, err = self.call(*args)
        self.assertEqual((code, err), (0, b""), args)
        return out.decode()

    def test_saved_in_use(self):
        """A snapshot and clones of a VM that writes to a volume: each goes on by itself with what was
        there, and the volume is left alone."""
        folder = self.dir + "/saved"
        self.ok("run", "-d", "--name", "box", "-v", "saved:/data", "busybox", "sh", "-c",
                "i=0; while :; do i=$((i+1)); echo $i >>/data/log; sync; done")
        self.addCleanup(self.call, "rm", "-f", "box", "twin-1", "twin-2", "child")
        self.ok("exec", "box", "sh", "-c", "until [ -s /data/log ]; do sleep 0.1; done; echo first >/data/f")
        self.assertRegex(self.ok("snapshot", "box", folder), r"^box stood still for \d+ ms\n$")
        with open(folder + "/manifest.json") as f:
            self.assertEqual([d["bytes"] for d in json.load(f)["disks"]], [10 << 30])
        self.assertLess(os.stat(folder + "/disk0").st_blocks * 512, 64 * MIB)
        self.ok("exec", "box", "sh", "-c", "echo later >/data/f")
        self.ok("fork", "box", "-n", "2", "--name", "twin")
        for twin in "twin-1", "twin-2":
            self.assertEqual(self.ok("exec", twin, "sh", "-c", f"cat /data/f; echo {twin} >>/data/f; sync;"
                                     "echo 3 >/proc/sys/vm/drop_caches; tail -n 1 /data/f"), f"later\n{twin}\n")
        self.ok("fork", "twin-1", "--name", "child")
        self.ok("stop", "twin-1")
        self.assertEqual(self.ok("exec", "child", "cat", "/data/f"), "later\ntwin-1\n")
        self.assertEqual(self.ok("exec", "box", "cat", "/data/f"), "later\n")
        self.ok("stop", "box")
        self.assert_clean(self.volume("saved"))
        self.ok("volume", "rm", "saved")

        image = f"snapshot:{folder}"
        script = "cat /data/f; echo mine >/data/f; sync; [ $(wc -l </data/log) -gt 0 ] && mount | grep -c /data"
        for _ in range(2):
            self.assertEqual(self.run_vm(image, "sh", "-c", script), (0, b"first\n1\n", b""))
        self.refused("run", "-v", "other:/more", image, "true", words=["has its own disks", "give no volumes"])
        with open(folder + "/disk0", "r+b") as f:
            f.seek(1024 + 0x78)  # the label of the file system
            f.write(b"x")
        self.refused("run", image, "true", words=[folder, "disk0 is damaged"])

    # ---- looking after them ----

    def test_commands(self):
        self.assertEqual(self.call("volume", "create", "Care-1"), (0, b"Care-1\n", b""))
        self.assertEqual(self.call("volume", "create", "Care-1")[0], 0)
        self.assert_clean(self.volume("Care-1"))
        code, out, _ = self.call("volume", "ls", "--json")
        mine = [v for v in json.loads(out) if v["name"] == "Care-1"]
        self.assertEqual((code, len(mine)), (0, 1))
        self.assertEqual((mine[0]["path"], mine[0]["size_bytes"]), (self.volume("Care-1"), 10 << 30))
        self.assertLess(mine[0]["disk_bytes"], MIB)
        self.assertIn(b"Care-1 ", self.call("volume", "ls")[1])
        self.assertEqual(self.call("volume", "rm", "Care-1"), (0, b"Care-1\n", b""))
        self.refused("volume", "rm", "Care-1", words=['no volume "Care-1"'])
        self.refused("volume", "create", "a/b", words=["cannot be a volume"])
        for bad in [], ["x"], ["ls", "x"], ["rm"], ["create"], ["create", "aa", "bb"], ["--json"]:
            self.refused("volume", *bad, words=["supermachine help volume"])


if __name__ == "__main__":
    run_tests()
