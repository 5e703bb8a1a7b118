#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""images, inspect, rmi, gc, verify; and what a kill at any state-changing call of a pull leaves: a store that
`verify` finds clean and where the next pull works. SM_LONG=1: at every call, else at some of each kind."""
import collections
import fcntl
import glob
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

from case import *

from faults import can_trace

C = tar([("d", b"D" * 900)])
LONG = bool(os.environ.get("SM_LONG"))
# What changes the store, or gives it away.
CALLS = ["mkdir", "openat", "write", "pwrite64", "ftruncate", "fsync", "rename", "unlink", "flock", "close",
         "utimensat"]


class StoreCase(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="sm-ops-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.store = self.dir + "/store"
        self.env = environment(self.dir, SUPERMACHINE_HOME=self.store)
        self.r = Registry()
        self.addCleanup(self.r.close)
        self.r.add([A, B], tag="1")
        self.r.add([A, C], tag="2")
        self.one, self.two = (f"{self.r.host}/t/image:{i}" for i in (1, 2))

    def cli(self, *args, code=0):
        r = subprocess.run([CLI, *args], capture_output=True, text=True, timeout=60, env=self.env)
        self.assertEqual(r.returncode, code, r.stdout + r.stderr)
        return r.stdout + r.stderr if code else r.stdout

    def files(self, folder):
        return sorted(os.listdir(f"{self.store}/{folder}"))

    def names(self):
        return sorted(i["name"] for i in json.loads(self.cli("images", "--json")))


class Commands(StoreCase):
    def test_images_and_inspect(self):
        self.assertEqual(json.loads(self.cli("images", "--json")), [])
        for ref in (self.one, self.two):
            self.cli("pull", "-q", ref)
        self.assertEqual(self.names(), [self.one, self.two])
        self.assertIn(self.one, self.cli("images"))
        got = json.loads(self.cli("inspect", self.one))
        manifest = json.loads(self.r.manifests["1"][0])
        self.assertEqual(got["id"], manifest["config"]["digest"])
        self.assertEqual(got["digest"], sha(self.r.manifests["1"][0]))
        self.assertEqual([x["diff_id"] for x in got["layers"]], [sha(A), sha(B)])
        self.assertEqual(got["config"], config([A, B]))
        self.assertIn("has no image", self.cli("inspect", "nope", code=125))

    def test_rmi_keeps_what_others_need(self):
        for ref in (self.one, self.two):
            self.cli("pull", "-q", ref)
        freed = json.loads(self.cli("rmi", "--json", self.one))
        self.assertEqual((freed["layers"], freed["blobs"]), (1, 3))
        self.assertEqual(self.names(), [self.two])
        self.assertIn(sha(A)[7:] + ".erofs", self.files("layers/sha256"))
        self.assertNotIn(sha(B)[7:] + ".erofs", self.files("layers/sha256"))
        self.cli("verify")
        self.assertIn("has no image", self.cli("rmi", self.one, code=125))
        self.cli("rmi", self.two)
        self.assertEqual(self.files("blobs/sha256") + self.files("layers/sha256"), [])

    def test_gc(self):
        self.cli("pull", "-q", self.one)
        lay = Layout(self.dir + "/l")
        lay.add(lay.image([C]))
        subprocess.run([TOOL, "oci:" + lay.path, self.store], check=True, capture_output=True)
        with open(f"{self.store}/tmp/{'0' * 64}.blob", "w") as f:
            f.write("left by a kill")
        freed = json.loads(self.cli("gc", "--json"))
        self.assertEqual((freed["layers"], freed["blobs"]), (1, 0))
        self.assertEqual(self.files("tmp"), [])
        self.assertEqual(self.files("locks"), ["images"])
        self.cli("verify")
        self.assertEqual(self.names(), [self.one])

    def snapshot(self, key, image):
        folder = f"{self.store}/snapshots/{key * 64}"
        os.makedirs(folder)
        with open(f"{folder}/ram", "wb") as f:
            f.write(b"x" * 100000)
        with open(f"{folder}/manifest.json", "w") as f:
            json.dump({"document": {"image_digest": image}} if image else {}, f)

    def test_snapshots_go_with_their_image(self):
        for ref in (self.one, self.two):
            self.cli("pull", "-q", ref)
        ids = [json.loads(self.cli("inspect", ref))["id"] for ref in (self.one, self.two)]
        for key, image in ("1", ids[0]), ("2", ids[1]), ("3", sha(b"no such image")), ("4", None):
            self.snapshot(key, image)
        freed = json.loads(self.cli("rmi", "--json", self.one))
        self.assertEqual(freed["snapshots"], 1)
        self.assertEqual(self.files("snapshots"), [k * 64 for k in "234"])
        freed = json.loads(self.cli("gc", "--json"))
        self.assertEqual(freed["snapshots"], 2)
        self.assertGreaterEqual(freed["bytes"], 200000)
        self.assertEqual(self.files("snapshots"), ["2" * 64])
        self.assertEqual(self.files("tmp"), [])

    @staticmethod
    def read(path):
        with open(path, "rb") as f:
            return f.read()

    def damage(self, path):
        with open(path, "r+b") as f:
            data = bytearray(f.read())
            data[len(data) // 3] ^= 1
            f.seek(0)
            f.write(data)

    def all_files(self):
        return [f"{self.store}/{d}/{n}" for d in ("blobs/sha256", "layers/sha256", "images") for n in self.files(d)]

    def test_verify_finds_every_file(self):
        self.cli("pull", "-q", self.one)
        self.assertIn("0 problems", self.cli("verify"))
        for path in self.all_files():
            for harm in (self.damage, lambda p: open(p, "w").close(), lambda p: os.truncate(p, 100)):
                self.cli("pull", "-q", self.one)
                harm(path)
                self.assertEqual(subprocess.run([CLI, "verify"], env=self.env, capture_output=True).returncode, 1,
                                 path)
                self.cli("verify", "--repair")
                self.cli("verify")

    def test_repair_missing(self):
        self.cli("pull", "-q", self.one)
        want = {p: self.read(p) for p in self.all_files() if "images" not in p}
        self.r.manifests["1"] = self.r.manifests["2"]  # the name means something else by now
        for path in want:
            os.unlink(path)
            self.cli("verify", code=1)
            out = json.loads(self.cli("verify", "--repair", "--json"))
            self.assertEqual(out["repaired"], len(out["problems"]))
            self.assertEqual(self.read(path), want[path])

    def test_repair_without_registry(self):
        self.cli("pull", "-q", self.one)
        self.r.manifests.clear()
        self.r.blobs.clear()
        self.damage(f"{self.store}/layers/sha256/{sha(B)[7:]}.erofs")
        self.cli("verify", "--repair")  # from its blob
        os.unlink(f"{self.store}/blobs/sha256/{json.loads(self.cli('inspect', self.one))['layers'][1]['digest'][7:]}")
        self.assertIn("has no", self.cli("verify", "--repair", code=1))

    def test_strange_files(self):
        self.cli("pull", "-q", self.one)
        for name in ("blobs/sha256/x", "layers/sha256/" + "0" * 64):
            open(f"{self.store}/{name}", "w").close()
            self.cli("verify", code=1)
            self.cli("verify", "--repair")
            self.cli("verify")

    def test_modes(self):
        self.cli("pull", "-q", self.one)
        for folder, folders, files in os.walk(self.store):
            self.assertEqual(os.stat(folder).st_mode & 0o7777, 0o700, folder)
            for name in files:
                self.assertEqual(os.stat(f"{folder}/{name}").st_mode & 0o7777, 0o600, name)


class Traced(StoreCase):
    def setUp(self):
        if not can_trace():
            self.skipTest("strace cannot trace here")
        super().setUp()
        # Under strace the leak checker cannot work.
        self.env["ASAN_OPTIONS"] = self.env.get("ASAN_OPTIONS", "") + ":detect_leaks=0"


class Slow(Traced):
    def test_gc_takes_no_lock_away(self):
        """A lock's file is cleared away by another, and made anew by one who then holds it, between gc's opening it and
        gc's lock on it: the new one keeps its name, or a second maker of the same would not see it."""
        self.cli("gc")
        path = f"{self.store}/locks/layer-{'0' * 64}"
        with open(path, "w") as old:
            gc = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-P", path, "-e", "trace=flock", "-e",
                                   "inject=flock:delay_enter=3000000:when=1", CLI, "gc"], env=self.env,
                                  stdout=subprocess.DEVNULL)
            self.addCleanup(gc.wait)
            before = time.monotonic()
            while path not in self.open_files():
                self.assertLess(time.monotonic(), before + 60)
                self.assertIsNone(gc.poll())
            os.unlink(path)
        with open(path, "w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            self.assertIsNone(gc.poll())  # it still waits
            self.assertEqual(gc.wait(60), 0)
            self.assertEqual(os.fstat(held.fileno()).st_nlink, 1)
        self.cli("gc")
        self.assertEqual(self.files("locks"), ["images"])

    @staticmethod
    def open_files():
        """Of other processes."""
        for fd in glob.glob("/proc/[0-9]*/fd/*"):
            try:
                if not fd.startswith(f"/proc/{os.getpid()}/"):
                    yield os.readlink(fd)
            except OSError:
                pass  # it is gone


class Killed(Traced):
    def trace(self):
        log = self.dir + "/trace"
        subprocess.run(["strace", "-f", "-o", log, CLI, "pull", "-q", self.one], check=True, env=self.env,
                       capture_output=True)
        shutil.rmtree(self.store)
        most = collections.Counter()  # strace counts by thread
        seen, started = collections.Counter(), False
        with open(log) as f:
            for line in f:
                m = re.match(r"(\d+) +(\w+)\(", line)
                started = started or self.store in line and "execve" not in line
                if m:
                    seen[m[1], m[2]] += 1
                    if started:
                        most[m[2]] = max(most[m[2]], seen[m[1], m[2]])
        return {c: most[c] for c in CALLS if most[c]}

    def test_killed_at_calls(self):
        kills = 0
        for call, most in self.trace().items():
            points = range(1, most + 1)
            if not LONG:
                points = sorted(set([1, 2, most] + random.Random(call).sample(points, min(3, most))))
            for n in points:
                subprocess.run(["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + call, "-e",
                                f"inject={call}:signal=KILL:when={n}", CLI, "pull", "-q", self.one],
                               env=self.env, capture_output=True, timeout=60)
                kills += 1
                where = f"{call} {n}"
                self.assertIn(" 0 problems", self.cli("verify"), where)
                self.cli("pull", "-q", self.one)
                self.assertEqual(self.names(), [self.one], where)
                self.assertEqual(self.files("tmp"), [], where)
                shutil.rmtree(self.store)
        print(f"killed at {kills} calls", file=sys.stderr)
        self.assertGreater(kills, 20)


if __name__ == "__main__":
    run_tests()
