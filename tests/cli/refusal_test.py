#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is refused: each with exit code 125 and one line that says what, on what, and why."""
import gzip
import os
import shutil
import subprocess
import unittest

from program import Case, ENGINE, PROGRAM
from images import *


class Flags(Case):
    def setUp(self):
        super().setUp()
        self.home = self.dir + "/untouched"

    def tearDown(self):
        self.assertFalse(os.path.exists(self.home), "flags are checked before anything is touched")

    def test_memory(self):
        for bad in ("0", "x", "-1", "", "95", "1.5", "256M", "0x100", "999999999",
                    "18446744073709551872"):
            self.refused("run", "--memory", bad, "busybox", "true",
                         words=["--memory " + bad, "from 96 to "])

    def test_vcpus(self):
        for bad in ("0", "9", "9999", "x"):
            self.refused("run", f"--vcpus={bad}", "busybox", "true",
                         words=["--vcpus " + bad, "from 1 to 8"])

    def test_cpu(self):
        for bad in ("x", "v1", "v4", "", "V3"):
            self.refused("run", f"--cpu={bad}", "busybox", "true", words=["--cpu " + bad, "v2 or v3"])

    def test_timeout(self):
        for bad in ("0", "-1", "x", "", "1s", "nan", "inf", "1e99"):
            self.refused("run", "--timeout", bad, "busybox", "true",
                         words=["--timeout " + bad, "0.001"])

    def test_check_every(self):
        for bad in ("0", "-1", "x", "", "1000000001"):
            self.refused("run", "--check-every", bad, "busybox", "true",
                         words=["--check-every " + bad, "from 1 to "])

    def test_trace(self):
        for bad in ("", "x", "exits,", "exits;tlb", "code", "code=", "code=1", "code=2-1", "code=1-2x",
                    "code=-1-2", "code=0x1-0x10000000000000000"):
            self.refused("run", "--trace", bad, "busybox", "true",
                         words=["--trace " + bad, "exits, interrupts, tlb and code=FROM-TO"])

    def test_engine(self):
        self.refused("run", "--engine", "hard", "busybox", "true", words=["hard", "auto, kvm or soft"])

    def test_workdir_and_env(self):
        self.refused("run", "-w", "relative", "busybox", "true", words=["relative", "/"])
        self.refused("run", "-e", "=x", "busybox", "true", words=["needs a name"])
        self.refused("run", "-e", "", "busybox", "true", words=["needs a name"])

    def test_unknown(self):
        for bad in (["--nosuch"], ["-x"], ["-itx"], ["--memoryx=3"]):
            self.refused("run", *bad, "busybox", "true",
                         words=["unknown option", "supermachine help run"])
        self.refused("doctor", "-x", words=["supermachine help doctor"])
        self.refused("doctor", "x", words=["unexpected"])
        self.refused("version", "x", words=["unexpected"])
        self.refused("nosuch", words=["nosuch", "supermachine help"])
        self.refused("help", "nosuch", words=["nosuch"])

    def test_arguments(self):
        self.refused("run", "--memory", words=["--memory"])
        self.refused("run", "-e", words=["-e"])
        self.refused("run", "--tty=yes", "busybox", words=["--tty"])
        self.refused("run", words=["no image", "supermachine help run"])
        self.refused("run", "--", words=["no image"])

    def test_it_without_terminal(self):
        self.refused("run", "-it", "busybox", "sh", words=["not a terminal"])

    def test_escapes_do_not_reach_the_terminal(self):
        err = self.refused("run", "--engine", "\x1b[31mred\x07", "busybox", "true")
        self.assertNotIn("\x1b", err)


class Engines(Case):
    @unittest.skipIf(ENGINE == "kvm", "it works here")
    def test_kvm(self):
        self.refused("run", "--engine", "kvm", "busybox", "true", words=["kvm", "--engine soft"])


class Kernels(Case):
    def refuse(self, data, *words):
        path = self.dir + "/kernel"
        with open(path, "wb") as f:
            f.write(data)
        self.refused("run", "--kernel", path, "busybox", "true", words=[path, *words])

    def test_missing(self):
        self.refused("run", "--kernel", "/nonexistent/k", "busybox", "true",
                     words=["/nonexistent/k", "No such file"])
        self.refused("run", "--kernel", "/tmp", "busybox", "true", words=["/tmp"])

    def test_unreadable(self):
        if os.geteuid() == 0 and not shutil.which("setpriv"):
            self.skipTest("root reads everything, and there is no setpriv")
        path = self.dir + "/secret"
        shutil.copy(os.environ["SM_BUILD_DIR"] + "/guest/vmlinuz", path)
        os.chmod(path, 0)
        if os.geteuid() != 0:
            self.refused("run", "--kernel", path, "busybox", "true", words=[path, "denied"])
            return
        os.chmod(self.shared, 0o755)
        os.chmod(self.dir, 0o777)
        r = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", PROGRAM,
                            "run", "--kernel", path, "busybox", "true"],
                           capture_output=True, text=True,
                           env=dict(os.environ, SUPERMACHINE_HOME=self.dir + "/s"))
        self.assertEqual(r.returncode, 125, r.stderr)
        self.assertIn(path, r.stderr)
        self.assertIn("denied", r.stderr)
        self.assertEqual(r.stderr.count("\n"), 1)

    def test_no_kernel(self):
        self.refuse(b"")
        self.refuse(b"just text\n" * 1000)
        self.refuse(os.urandom(100000))

    def test_truncated(self):
        with open(os.environ["SM_BUILD_DIR"] + "/guest/vmlinuz", "rb") as f:
            whole = f.read()
        self.refuse(whole[:200000])
        self.refuse(whole[:1000])

    def test_other_elf(self):
        with open("/bin/busybox", "rb") as f:
            self.refuse(f.read())


class Images(Case):
    def setUp(self):
        super().setUp()
        self.home = self.dir + "/store"

    def make(self, name="l", files=(("f", b"text"),), **more):
        layer = tar(files)
        l = Layout(f"{self.dir}/{name}")
        l.add(l.image([layer], **more))
        return l, layer

    def refuse(self, ref, *words):
        self.refused("run", ref, "true", words=words)
        self.assertEqual(self.stored(), [])

    def stored(self):
        found = []
        for folder in ("layers/sha256", "tmp"):
            path = f"{self.home}/{folder}"
            found += os.listdir(path) if os.path.isdir(path) else []
        return found

    def test_no_such_image(self):
        self.refuse("nosuch", "nosuch")
        self.refuse("oci:/nonexistent/dir", "/nonexistent/dir")
        self.refuse("docker-archive:/nonexistent.tar", "/nonexistent.tar")
        self.refuse("", "image")

    def test_folder_instead_of_layout(self):
        os.mkdir(self.dir + "/folder")
        self.refuse(f"oci:{self.dir}/folder", "folder")

    def test_broken_digest(self):
        l, layer = self.make()
        digest = sha(gzip.compress(layer, mtime=0))
        path = l.blob_path(digest)
        with open(path, "r+b") as f:
            data = bytearray(f.read())
            data[len(data) // 2] ^= 1
            f.seek(0)
            f.write(data)
        self.refuse("oci:" + l.path, digest[:19])

    def test_truncated_layer(self):
        l, layer = self.make(files=[("f", os.urandom(100000))])
        path = l.blob_path(sha(gzip.compress(layer, mtime=0)))
        os.truncate(path, os.path.getsize(path) // 2)
        self.refuse("oci:" + l.path, "sha256:")

    def test_unknown_media_type(self):
        l = Layout(self.dir + "/m")
        layer = tar([("f", b"x")])
        l.add(l.image([layer], media="application/vnd.example.layer"))
        self.refuse("oci:" + l.path, "application/vnd.example.layer")

    def test_wrong_architecture(self):
        layer = tar([("f", b"x")])
        l = Layout(self.dir + "/arch")
        l.add(l.image([layer], conf=config([layer], architecture="arm64")))
        self.refuse("oci:" + l.path, "arm64")
        l = Layout(self.dir + "/arch2")
        l.add(l.image([layer], conf=config([layer], architecture="arm64")),
              platform=platform("linux", "arm64"))
        self.refuse("oci:" + l.path, "arm64")

    def test_full_disk(self):
        """On a tmpfs of 1 MiB, in a mount namespace of our own."""
        where = self.dir + "/small"
        os.mkdir(where)
        script = ('mount -t tmpfs -o size=1m none "$1" || exit 77; '
                  'SUPERMACHINE_HOME="$1/store" "$2" run "$3" true; rc=$?; '
                  'find "$1/store/layers" "$1/store/tmp" -type f | sed "s/^/left: /"; exit $rc')
        l = Layout(self.dir + "/large")
        l.add(l.image([tar([("f", os.urandom(3 << 20))])]))
        r = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", where, PROGRAM,
                            "oci:" + l.path], capture_output=True, text=True)
        if r.returncode == 77 or "unshare" in r.stderr:
            self.skipTest("cannot mount a tmpfs: " + r.stderr.strip())
        self.assertEqual((r.returncode, r.stdout), (125, ""), r.stderr)
        self.assertEqual(r.stderr.count("\n"), 1, r.stderr)
        self.assertIn("No space left", r.stderr)

    def test_store_not_writable(self):
        self.home = "/proc/nowhere/store"
        self.refused("run", "busybox", "true", words=["/proc/nowhere"])
        self.home = self.dir + "/file"
        with open(self.home, "w"):
            pass
        self.refused("run", "busybox", "true", words=[self.home])

    def test_read_only_store(self):
        where = self.dir + "/ro"
        os.mkdir(where)
        script = ('mount -t tmpfs -o ro none "$1" || exit 77; '
                  'SUPERMACHINE_HOME="$1/store" exec "$2" run busybox true')
        r = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", where, PROGRAM],
                           capture_output=True, text=True)
        if r.returncode == 77 or "unshare" in r.stderr:
            self.skipTest("cannot mount a tmpfs: " + r.stderr.strip())
        self.assertEqual((r.returncode, r.stdout), (125, ""), r.stderr)
        self.assertEqual(r.stderr.count("\n"), 1, r.stderr)
        self.assertIn("Read-only", r.stderr)


if __name__ == "__main__":
    run_tests()
