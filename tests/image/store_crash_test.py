#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the store survives: a kill or a failing call at every system call, a full disk at every size, no
permission, many processes at once. After each, the next run must succeed and give the same layer."""
import collections
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from faults import can_trace
from images import *

TOOL = sys.argv[1]
# Under strace the leak checker cannot work; image_open_test.py runs with it.
os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"

# The calls that change the store, or on whose result it depends.
CALLS = ["mkdir", "openat", "write", "pwrite64", "ftruncate", "fallocate", "fsync", "rename",
         "unlink", "flock", "fchmod", "close", "lseek", "newfstatat", "copy_file_range"]


class StoreCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = tempfile.mkdtemp(prefix="sm-crash-")
        rng = random.Random(1)
        cls.layers = [tar([(f"dir{i}/f{k}", rng.randbytes(rng.choice((10, 5000, 40000))))
                           for k in range(12)]) for i in range(2)]
        lay = Layout(cls.root + "/l")
        lay.add(lay.image(cls.layers))
        cls.ref = "oci:" + lay.path
        r = subprocess.run([TOOL, cls.ref, cls.root + "/good"], capture_output=True)
        assert r.returncode == 0, r.stderr
        cls.hashes = cls.stored(cls.root + "/good")
        assert len(cls.hashes) == 2

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.root)

    def setUp(self):
        self.store = self.root + "/store"
        self.addCleanup(shutil.rmtree, self.store, ignore_errors=True)

    @staticmethod
    def stored(store):
        folder = store + "/layers/sha256"
        out = {}
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            with open(f"{folder}/{name}", "rb") as f:
                out[name] = hashlib.sha256(f.read()).hexdigest()
        return out

    def sound(self, store=None):
        """Every layer that can be seen is whole."""
        for name, digest in self.stored(store or self.store).items():
            self.assertEqual(digest, self.hashes.get(name), name)

    def recovers(self, store=None):
        store = store or self.store
        r = subprocess.run([TOOL, self.ref, store], capture_output=True, text=True, timeout=60)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(self.stored(store), self.hashes)
        self.assertEqual(os.listdir(store + "/tmp"), [])


class Faults(StoreCase):
    def setUp(self):
        if not can_trace():
            self.skipTest("strace cannot trace here")
        super().setUp()

    def count_calls(self):
        """How often each call happens once the program itself is loaded: (first, last) number."""
        log = self.root + "/trace"
        subprocess.run(["strace", "-f", "-o", log, TOOL, self.ref, self.store], check=True,
                       capture_output=True)
        shutil.rmtree(self.store)
        seen, first = collections.Counter(), {}
        started = False
        with open(log) as f:
            for line in f:
                m = re.match(r"\d+ +(\w+)\(", line)
                if not m:
                    continue
                seen[m[1]] += 1
                started = started or (self.store in line and m[1] != "execve")
                if started:
                    first.setdefault(m[1], seen[m[1]])
        return {c: (first[c], seen[c]) for c in CALLS if c in first}

    def inject(self, call, n, what):
        return subprocess.run(["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + call,
                               "-e", f"inject={call}:{what}:when={n}", TOOL, self.ref, self.store],
                              capture_output=True, text=True, timeout=60)

    def test_killed_at_every_call(self):
        total = 0
        for call, (first, last) in self.count_calls().items():
            for n in range(first, last + 1):
                r = self.inject(call, n, "signal=KILL")
                self.assertNotEqual(r.returncode, 125, f"{call} {n}: {r.stderr}")
                self.sound()
                self.recovers()
                shutil.rmtree(self.store)
                total += 1
        print(f"killed at {total} calls", file=sys.stderr)
        self.assertGreater(total, 50)

    def test_every_call_fails(self):
        total, refused = 0, 0
        errors = {"write": "ENOSPC", "pwrite64": "ENOSPC", "openat": "ENOSPC", "mkdir": "EACCES",
                  "fsync": "EIO", "rename": "EIO", "ftruncate": "EIO", "flock": "ENOLCK",
                  "newfstatat": "EIO"}
        for call, (first, last) in self.count_calls().items():
            for n in range(first, last + 1):
                r = self.inject(call, n, "error=" + errors.get(call, "EIO"))
                self.assertIn(r.returncode, (0, 125), f"{call} {n}: {r.stderr}")
                if r.returncode:
                    self.assertEqual(r.stderr.count("\n"), 1, f"{call} {n}: {r.stderr}")
                    refused += 1
                    if os.path.isdir(self.store + "/tmp") and call != "unlink":
                        self.assertEqual(os.listdir(self.store + "/tmp"), [], f"{call} {n}")
                else:
                    self.assertEqual(json.loads(r.stdout)["os"], "linux")
                self.sound()
                self.recovers()
                shutil.rmtree(self.store)
                total += 1
        print(f"{refused} of {total} failed calls were refused", file=sys.stderr)
        self.assertGreater(refused, 30)


class NoSpace(StoreCase):
    def mount(self, size):
        self.mnt = self.root + "/mnt"
        os.makedirs(self.mnt, exist_ok=True)
        r = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "sm-test", self.mnt],
                           capture_output=True, text=True)
        if r.returncode:
            self.skipTest("cannot mount a tmpfs: " + r.stderr.strip())
        self.addCleanup(self.unmount)

    def unmount(self):
        subprocess.run(["umount", self.mnt], capture_output=True)

    def test_full_disk_at_every_size(self):
        need = sum(os.path.getsize(f"{self.root}/good/layers/sha256/{n}") for n in self.hashes)
        outcomes = collections.Counter()
        for size in range(4096, need + 400000, 32768):
            self.mount(f"size={size}")
            store = self.mnt + "/store"
            r = subprocess.run([TOOL, self.ref, store], capture_output=True, text=True)
            self.assertIn(r.returncode, (0, 125), r.stderr)
            outcomes[r.returncode] += 1
            self.sound(store)
            if r.returncode:
                self.assertIn("No space left on device", r.stderr)
                self.assertIn("(code -11)", r.stderr)
                self.assertIn(store, r.stderr)
                self.assertEqual(r.stderr.count("\n"), 1)
                if os.path.isdir(store + "/tmp"):
                    self.assertEqual(os.listdir(store + "/tmp"), [])
                subprocess.run(["mount", "-o", "remount,size=64m", self.mnt], check=True)
                self.recovers(store)
            self.unmount()
        self.assertGreater(outcomes[125], 3)
        self.assertGreater(outcomes[0], 0)

    def test_no_inodes(self):
        for n in range(2, 14):
            self.mount(f"nr_inodes={n}")
            store = self.mnt + "/store"
            r = subprocess.run([TOOL, self.ref, store], capture_output=True, text=True)
            if r.returncode:
                self.assertEqual(r.returncode, 125, r.stderr)
                self.assertIn("No space left on device", r.stderr)
            self.sound(store)
            subprocess.run(["mount", "-o", "remount,nr_inodes=1000", self.mnt], check=True)
            self.recovers(store)
            self.unmount()

    def test_compressed_archive_does_not_fit(self):
        import gzip
        docker_archive(self.root + "/d.tar", [tar([("big", bytes(3 << 20))])])
        with open(self.root + "/d.tar", "rb") as f:
            data = gzip.compress(f.read())
        with open(self.root + "/d.tar.gz", "wb") as f:
            f.write(data)
        self.mount("size=1m")
        r = subprocess.run([TOOL, f"docker-archive:{self.root}/d.tar.gz", self.mnt + "/store"],
                           capture_output=True, text=True)
        self.assertEqual(r.returncode, 125)
        self.assertIn("No space left on device", r.stderr)
        self.assertEqual(os.listdir(self.mnt + "/store/tmp"), [])

    def test_file_size_limit(self):
        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000))
        r = subprocess.run([TOOL, self.ref, self.store], capture_output=True, text=True,
                           preexec_fn=limit)
        self.assertEqual(r.returncode, 125)
        self.assertIn("File too large", r.stderr)
        self.assertEqual(os.listdir(self.store + "/tmp"), [])
        self.sound()
        self.recovers()


class NotWritable(StoreCase):
    def as_nobody(self, *argv):
        """Run without root's privileges; skips where that cannot be done."""
        if os.geteuid() != 0:
            return subprocess.run(argv, capture_output=True, text=True)
        prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        if subprocess.run(prefix + ["true"], capture_output=True).returncode:
            self.skipTest("cannot drop root's privileges")
        if subprocess.run(prefix + ["test", "-x", TOOL]).returncode:
            self.skipTest("an unprivileged user cannot reach " + TOOL)
        return subprocess.run(prefix + list(argv), capture_output=True, text=True)

    def give_away(self):
        os.chmod(self.root, 0o755)
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "65534:65534", self.store], check=True)

    def test_read_only_folders(self):
        self.recovers()
        other = Layout(self.root + "/other")
        other.add(other.image([tar([("new", b"x")])]))
        self.addCleanup(shutil.rmtree, other.path)
        self.give_away()
        folders = [r for r, _, _ in os.walk(self.store)]
        for folder in folders:
            os.chmod(folder, 0o500)
        self.addCleanup(lambda: [os.chmod(f, 0o700) for f in folders])
        r = self.as_nobody(TOOL, self.ref, self.store)
        self.assertEqual(r.returncode, 0, r.stderr)  # all there: nothing needs to be written
        r = self.as_nobody(TOOL, "oci:" + other.path, self.store)
        self.assertEqual(r.returncode, 125)
        self.assertIn(f"the store {self.store} is not writable", r.stderr)
        self.assertEqual(r.stderr.count("\n"), 1)

    def test_no_place_for_a_store(self):
        os.mkdir(self.store)
        self.give_away()
        os.chmod(self.store, 0o500)
        r = self.as_nobody(TOOL, self.ref, self.store)
        self.assertEqual(r.returncode, 125)
        self.assertIn("is not writable", r.stderr)
        r = self.as_nobody(TOOL, self.ref, self.store + "/deeper")
        self.assertEqual(r.returncode, 125)
        self.assertIn("cannot create the store", r.stderr)
        self.assertIn("Permission denied", r.stderr)

    def test_another_users_store(self):
        if os.geteuid() != 0:
            self.skipTest("needs root to give a folder away")
        self.recovers()
        self.give_away()
        r = subprocess.run([TOOL, self.ref, self.store], capture_output=True, text=True)
        self.assertEqual(r.returncode, 125)
        self.assertIn("belongs to user 65534", r.stderr)

    def test_read_only_mount(self):
        mnt = self.root + "/mnt"
        os.makedirs(mnt, exist_ok=True)
        r = subprocess.run(["mount", "-t", "tmpfs", "sm-test", mnt], capture_output=True, text=True)
        if r.returncode:
            self.skipTest("cannot mount a tmpfs: " + r.stderr.strip())
        self.addCleanup(subprocess.run, ["umount", mnt])
        r = subprocess.run([TOOL, self.ref, mnt + "/store"], capture_output=True)
        self.assertEqual(r.returncode, 0)
        subprocess.run(["mount", "-o", "remount,ro", mnt], check=True)
        r = subprocess.run([TOOL, self.ref, mnt + "/store"], capture_output=True, text=True)
        self.assertEqual(r.returncode, 0, r.stderr)
        r = subprocess.run([TOOL, self.ref, mnt + "/other"], capture_output=True, text=True)
        self.assertEqual(r.returncode, 125)
        self.assertIn("Read-only file system", r.stderr)


class Together(StoreCase):
    def start(self, count, prefix=()):
        return [subprocess.Popen([*prefix, TOOL, self.ref, self.store],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                for i in range(count)]

    def finish(self, procs):
        for p in procs:
            _, stderr = p.communicate(timeout=60)
            self.assertEqual(p.returncode, 0, stderr)

    def test_eight_convert_once(self):
        trace = can_trace()
        if not trace:
            print("SKIP the count of conversions: strace cannot trace here", file=sys.stderr)
        logs = [f"{self.root}/log{i}" for i in range(8)]
        procs = [p for log in logs for p in
                 self.start(1, ("strace", "-f", "-qq", "-e", "trace=rename", "-o", log)
                            if trace else ())]
        self.finish(procs)
        self.assertEqual(self.stored(self.store), self.hashes)
        if trace:
            renames = []
            for log in logs:
                with open(log) as f:
                    renames += [line for line in f if "layers/sha256" in line]
            self.assertEqual(len(renames), 2, "".join(renames))

    def test_leader_killed(self):
        rng = random.Random(3)
        for _ in range(15):
            shutil.rmtree(self.store, ignore_errors=True)
            procs = self.start(8)
            time.sleep(rng.uniform(0, 0.03))
            for p in rng.sample(procs, 3):
                p.kill()
                p.communicate()
                procs.remove(p)
            began = time.monotonic()
            self.finish(procs)
            self.assertLess(time.monotonic() - began, 20)
            self.recovers()


if __name__ == "__main__":
    run_tests()
