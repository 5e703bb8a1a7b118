#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`run -v /folder:/path`: a folder of the host's in guests: as a file system, who sees what and when, whose files
they are, and that nothing outside of it is ever reached."""
import ctypes
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import threading
import time

from program import Case, ENGINE, PATIENCE
from images import run_tests

POSIX = sys.argv.pop()  # the program folder_guest
RENAME_EXCHANGE = 2
LIBC = ctypes.CDLL(None, use_errno=True)


def tree(top):
    """All that is in a folder: names, types, modes, files' times (busybox's tar sets no others), contents, links."""
    found = {}
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            path = f"{folder}/{name}"
            st = os.lstat(path)
            what = os.readlink(path) if stat.S_ISLNK(st.st_mode) else None
            if stat.S_ISREG(st.st_mode):
                with open(path, "rb") as f:
                    what = hashlib.sha256(f.read()).hexdigest()
            found[os.path.relpath(path, top)] = (oct(st.st_mode), int(st.st_mtime) if stat.S_ISREG(st.st_mode) else 0,
                                               st.st_nlink, what)
    return found


class Folders(Case):
    def setUp(self):
        super().setUp()
        self.folder = self.dir + "/shared"
        os.mkdir(self.folder)

    def shell(self, script, *options, how="", **more):
        return self.run_vm(*options, "-v", f"{self.folder}:/mnt{how}", "busybox", "sh", "-c", script, **more)

    def expect_shell(self, want, script, *options, **more):
        code, out, err = self.shell(script, *options, **more)
        self.assertEqual((code, out.decode()), (0, want), err)

    def put(self, name, text=""):
        with open(f"{self.folder}/{name}", "w") as f:
            f.write(text)

    def get(self, name):
        with open(f"{self.folder}/{name}") as f:
            return f.read()

    # ---- a file system ----

    def test_posix(self):
        """The same program, with the same result, here and in a guest; it is run from the folder."""
        shutil.copy(POSIX, self.folder + "/program")
        os.mkdir(self.folder + "/here")
        os.mkdir(self.folder + "/there")
        files = "100" if ENGINE == "kvm" else "5000"  # a request is slow in an emulated machine
        here = subprocess.run([POSIX, self.folder + "/here", files], stdout=subprocess.PIPE)
        self.assertEqual(here.returncode, 0, here.stdout)
        code, out, err = self.shell(f"/mnt/program /mnt/there {files}")
        self.assertEqual((code, out), (0, here.stdout), err)
        self.assertEqual(sorted(os.listdir(self.folder + "/here")), sorted(os.listdir(self.folder + "/there")))

    def test_tree(self):
        """tar in and out gives equal trees; mkdir -p and rm -rf."""
        shutil.copytree(os.environ["SM_SOURCE_DIR"] + "/src/agent", self.folder + "/one")
        os.symlink("codec.c", self.folder + "/one/link")
        os.symlink("/none", self.folder + "/one/dangling")
        os.link(self.folder + "/one/codec.h", self.folder + "/one/hard")
        os.chmod(self.folder + "/one/wire.h", 0o400)
        os.mkdir(self.folder + "/one/sub", 0o711)
        os.mkfifo(self.folder + "/one/sub/fifo", 0o600)
        want = tree(self.folder + "/one")
        self.assertEqual(self.shell("mkdir -p /mnt/two /tmp/x && tar c -C /mnt/one . | tar x -C /tmp/x &&"
                                    "tar c -C /tmp/x . | tar x -C /mnt/two"), (0, b"", b""))
        self.assertEqual(tree(self.folder + "/two"), want)
        self.assertEqual(self.shell("mkdir -p /mnt/a/b/c/d/e; rm -rf /mnt/two /mnt/one; ls /mnt"),
                         (0, b"a\n", b""))
        self.assertEqual(os.listdir(self.folder), ["a"])

    def test_large(self):
        data = os.urandom(1 << 20) * 24
        with open(self.folder + "/in", "wb") as f:
            f.write(data)
        digest = hashlib.sha256(data).hexdigest()
        self.expect_shell(f"{digest}  -\n", "cat /mnt/in >/mnt/out; sha256sum </mnt/in")
        with open(self.folder + "/out", "rb") as f:
            self.assertEqual(hashlib.sha256(f.read()).hexdigest(), digest)

    # ---- who sees what ----

    def test_host_and_guest(self):
        """Either side sees what the other does within two seconds, also of files that it has read."""
        self.put("f", "one")
        p = self.start("run", "-i", "-v", f"{self.folder}:/mnt", "busybox", "sh", stdin=subprocess.PIPE,
                       stdout=subprocess.PIPE)
        self.addCleanup(p.stdout.close)

        def ask(command):
            p.stdin.write(command.encode() + b"; echo; echo .\n")
            p.stdin.flush()
            return b"".join(iter(p.stdout.readline, b".\n"))[:-1].decode()

        self.assertEqual(ask("cat /mnt/f"), "one")
        self.put("f", "two and more")
        self.put("new", "new")
        time.sleep(2)
        self.assertEqual(ask("cat /mnt/f; ls /mnt"), "two and moref\nnew\n")
        self.assertEqual(ask("echo guest >/mnt/f; rm /mnt/new"), "")
        self.assertEqual(self.get("f"), "guest\n")
        self.assertEqual(os.listdir(self.folder), ["f"])
        self.expect_shell("guest\n", "cat /mnt/f; echo other >/mnt/other")  # another VM, at the same time
        time.sleep(2)
        self.assertEqual(ask("cat /mnt/other"), "other\n")
        os.rename(self.folder + "/other", self.folder + "/moved")
        time.sleep(2)
        self.assertEqual(ask("cat /mnt/other 2>/dev/null; cat /mnt/moved"), "other\n")
        p.communicate(timeout=PATIENCE)
        self.assertEqual(p.returncode, 0)

    def test_read_only(self):
        """By the server, whatever the guest's kernel thinks."""
        self.put("f", "text")
        before = tree(self.folder)
        code, out, err = self.shell("cat /mnt/f; echo no >/mnt/f; mount -o remount,rw /mnt; echo no >/mnt/f;"
                                    "touch /mnt/new; rm /mnt/f; mkdir /mnt/d; chmod 777 /mnt/f; mv /mnt/f /mnt/g",
                                    how=":ro")
        self.assertEqual((code != 0, out), (True, b"text"), err)
        self.assertEqual(err.count(b"Read-only file system"), 7, err)
        self.assertEqual(tree(self.folder), before)

    def test_owners(self):
        self.put("mine")
        self.put("other")
        if os.getuid() == 0:
            os.chown(self.folder + "/other", 1000, 1000)
            self.expect_shell("0:0\n65534:65534\n", "stat -c %u:%g /mnt/mine /mnt/other")
        self.expect_shell("refused\n", "chown 5:5 /mnt/mine 2>/dev/null || echo refused; chown 0:0 /mnt/mine;"
                          "touch /mnt/new; chmod 6750 /mnt/new; umask 0; mkdir -m 777 /mnt/open")
        st = os.stat(self.folder + "/new")
        self.assertEqual((st.st_uid, st.st_gid, st.st_mode & 0o7777), (os.getuid(), os.getgid(), 0o750))
        self.assertEqual(os.stat(self.folder + "/open").st_mode & 0o7777, 0o777)
        self.expect_shell("ok\n", "touch /mnt/open/f && echo ok", "-u", "1234:1234")
        self.assertEqual(os.stat(self.folder + "/open/f").st_uid, os.getuid())
        self.expect_shell("1234:0\n", "touch /mnt/f; stat -c %u:%g /mnt/f", "-u", "1234")
        self.expect_shell("1234:55\n", "rm /mnt/f; mkdir /mnt/x && stat -c %u:%g /mnt/x", "-u", "1234:55")
        self.assertEqual(os.stat(self.folder + "/x").st_uid, os.getuid())
        for kind in "c", "b":
            self.assertIn(b"not permitted", self.shell(f"mknod /mnt/dev {kind} 1 3")[2])

    # ---- nothing else ----

    def test_links(self):
        """They lead where the guest's own names lead."""
        secret = self.dir + "/secret"
        with open(secret, "w") as f:
            f.write("SECRET")
        os.symlink(secret, self.folder + "/absolute")
        os.symlink("../secret", self.folder + "/relative")
        code, out, err = self.shell(f"cat /mnt/absolute /mnt/relative /mnt/../{secret}; echo guest >/secret;"
                                    "cat /mnt/relative; ln -s / /mnt/root; echo made >/mnt/root/made; ls /made")
        self.assertEqual((code, out), (0, b"guest\n/made\n"), err)
        self.assertFalse(os.path.exists("/made"))

    def test_races(self):
        """A folder and a link to the host's / change places while guests walk, write and remove."""
        seconds = int(os.environ.get("SM_RACE_SECONDS", "10"))
        os.makedirs(f"{self.folder}/d/a{self.dir}")
        self.put("d/a/f", "inside")
        os.symlink("/", self.folder + "/l")
        with open(self.dir + "/secret", "w") as f:
            f.write("SECRET")
        stop = threading.Event()
        swaps = 0

        def swap():
            nonlocal swaps
            one, other = (os.fsencode(f"{self.folder}/{n}") for n in "dl")
            while not stop.is_set():
                if LIBC.renameat2(-100, one, -100, other, RENAME_EXCHANGE) == 0:
                    swaps += 1
                time.sleep(0.0005)

        thread = threading.Thread(target=swap)
        thread.start()
        try:
            code, out, err = self.shell(
                f"end=$(($(date +%s) + {seconds})); n=0; while [ $(date +%s) -lt $end ]; do"
                f" cat /mnt/d/a/f; cat /mnt/d{self.dir}/secret /mnt/d/a{self.dir}/secret /mnt/l{self.dir}/secret;"
                f" ls -R /mnt/d/a >/dev/null; echo x >/mnt/d{self.dir}/evil; rm -f /mnt/d{self.dir}/secret;"
                f" mkdir -p /mnt/d/a{self.dir}/made; done 2>/dev/null; echo; true")
        finally:
            stop.set()
            thread.join()
        self.assertEqual(code, 0, err)
        self.assertNotIn(b"SECRET", out)
        self.assertIn(b"inside", out)
        self.assertGreater(swaps, 100)
        self.assertEqual(sorted(os.listdir(self.dir)), ["secret", "shared"])

    # ---- which folders, and snapshots ----

    def test_refused(self):
        none = self.dir + "/none"
        self.refused("run", "-v", f"{none}:/x", "busybox", "true", words=[none, "No such file"])
        self.assertFalse(os.path.exists(none))
        os.mkfifo(none)
        self.refused("run", "-v", f"{none}:/x", "busybox", "true", words=[none, "neither a folder nor"])
        self.refused("run", "-v", f"{self.folder}:/bin/busybox/x", "busybox", "true",
                     words=["folder for /bin/busybox/x", "Not a directory"])
        if os.getuid() == 0:
            os.mkdir(self.dir + "/closed", 0o700)
            os.chown(self.dir + "/closed", 1000, 1000)
            self.refused("run", "-v", f"{self.dir}/closed:/x", "busybox", "true",
                         words=["closed to the VM's process", "user 1000", "700"])

    def test_snapshots(self):
        """One for all folders; with folders and disks mixed, each is where it was asked for."""
        self.home = self.dir + "/store"
        self.expect_shell("", "echo one >/mnt/f")
        before = os.listdir(f"{self.home}/snapshots")
        self.put("g", "here")
        os.mkdir(self.dir + "/other")
        code, out, err = self.run_vm("-v", f"{self.dir}/other:/x:ro", "busybox", "sh", "-c",
                                     "ls /x; grep ' /x ' /proc/mounts")
        self.assertEqual((code, out), (0, b"sm0 /x virtiofs ro,relatime 0 0\n"), err)
        self.assertEqual(os.listdir(f"{self.home}/snapshots"), before)
        for _ in range(2):  # booted, and restored
            code, out, err = self.run_vm("-v", f"{self.dir}/other:/a", "-v", "disk:/b", "-v", f"{self.folder}:/c",
                                         "busybox", "sh", "-c", "cat /c/f; echo a >/a/a; echo b >/b/b")
            self.assertEqual((code, out), (0, b"one\n"), err)
        self.assertEqual(os.listdir(self.dir + "/other"), ["a"])
        snapshot = f"snapshot:{self.home}/snapshots/{before[0]}"
        self.refused("run", snapshot, "true", words=["volumes cannot be changed"])
        self.assertEqual(self.run_vm("-v", f"{self.folder}:/y", snapshot, "cat", "/y/g"), (0, b"here", b""))
        self.refused("run", "-v", "disk:/y", snapshot, "true", words=["snapshot"])
        self.assertEqual(self.call("run", "-d", "--name", "box", "-v", f"{self.folder}:/mnt", "busybox", "sleep",
                                   "1000")[0], 0)
        self.refused("snapshot", "box", self.dir + "/saved", words=["a VM with shared folders cannot be saved", "use volumes"])
        self.assertEqual(self.call("stop", "box")[0], 0)
        self.call("rm", "box")


if __name__ == "__main__":
    run_tests()
