#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A bake that is killed, or that is refused a system call, at every point at which it changes the store: by itself or in
the VM's process. Whatever is then there, verify finds nothing wrong, and the next bake and the run after it are right.
As many points as fit into some seconds, spread over all; SM_LONG=1: every one."""
import os
import shutil
import subprocess
import sys
import time
import unittest

from program import *

from faults import calls, can_trace, inject
from images import run_tests

LONG = "SM_LONG" in os.environ
SECONDS = 20  # for each of the two tests below, unless LONG

# Calls that change the store, and what they fail with.
ERRORS = {"mkdir": "ENOSPC", "openat": "ENOSPC", "write": "ENOSPC", "pwrite64": "ENOSPC", "ftruncate": "EIO",
          "fsync": "EIO", "rename": "EIO", "renameat2": "EIO", "unlinkat": "EIO", "rmdir": "EIO", "unlink": "EIO",
          "link": "ENOSPC", "flock": "ENOLCK", "fchmod": "EIO"}


def changes(name, line):
    """Does this call change something on disk, or hold others off?"""
    return name != "openat" or "O_CREAT" in line


def spread(points, seconds_each):
    if LONG:
        return points
    written = [p for p in points if p[0] == "pwrite64"]  # memory, a run of pages at a time: three of the many
    some = {written[0], written[len(written) // 2], written[-1]}
    points = [p for p in points if p not in written or p in some]
    return points[::max(1, -(-len(points) // max(4, int(SECONDS / seconds_each))))]


class BakeCrash(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if not can_trace():
            raise unittest.SkipTest("strace cannot trace here")
        # Under strace the leak checker cannot work.
        os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
        cls.seed = cls.shared + "/seed"  # the image is there already, and no snapshot
        home = cls.shared + "/store"
        env = dict(os.environ, SUPERMACHINE_HOME=cls.seed)
        subprocess.run([PROGRAM, "run", "--cold", "busybox", "true"], env=env, check=True, timeout=PATIENCE)
        shutil.copytree(cls.seed, home)
        cls.argv = [PROGRAM, "bake", "--memory", "128", "busybox"]
        env["SUPERMACHINE_HOME"] = home
        began = time.monotonic()
        found = calls(cls.argv, ERRORS, home, cls.shared + "/trace", env=env, timeout=PATIENCE)
        cls.seconds = 2 * (time.monotonic() - began)  # to make, and to make again
        cls.points = []
        for name, path, number, line in found:
            if changes(name, line) and (name, path, number) not in cls.points:
                cls.points.append((name, path, number))
        names = {point[0] for point in cls.points}
        assert {"mkdir", "openat", "pwrite64", "fsync", "rename", "write"} <= names, names

    def fault(self, point, what):
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.copytree(self.seed, self.home)
        p = inject(self.argv, *point, what, env=self.env(), capture_output=True, text=True, timeout=PATIENCE)
        assert_alone(self, -1, PATIENCE)  # the VM's process is gone, too
        return p

    def expect_sound(self, where):
        """What the next commands find."""
        code, out, err = self.call("verify")
        self.assertEqual((code, err), (0, b""), f"{where}: {out}")
        for folder in os.listdir(self.home + "/snapshots"):
            files = sorted(os.listdir(f"{self.home}/snapshots/{folder}"))
            self.assertEqual(files, ["manifest.json", "ram", "state"], where)
        code, out, err = self.call(*self.argv[1:])
        self.assertEqual((code, err), (0, b""), where)
        folder = out.decode().strip()
        self.assertEqual(os.listdir(self.home + "/tmp"), [], where)
        self.assertEqual(len(os.listdir(self.home + "/snapshots")), 1, where)
        self.assertEqual(self.run_vm(f"snapshot:{folder}", "echo", "right"), (0, b"right\n", b""), where)

    def test_killed(self):
        points, died = spread(self.points, self.seconds), 0
        for point in points:
            p = self.fault(point, "signal=KILL")
            where = f"killed at {point}: {p.returncode} {p.stderr}"
            if p.returncode == 125:  # it was the VM's process
                self.assertRegex(p.stderr, r"^supermachine: bake: .*\n$", where)
            else:
                self.assertIn(p.returncode, (0, -9, 137), where)
            died += p.returncode != 0
            self.expect_sound(where)
        print(f"killed at {died} of {len(points)} points; there are {len(self.points)}", file=sys.stderr)
        self.assertGreater(died, len(points) // 2)

    def test_refused_a_call(self):
        points, refused = spread(self.points, self.seconds), 0
        for point in points:
            p = self.fault(point, "error=" + ERRORS[point[0]])
            where = f"{point} fails: {p.returncode} {p.stderr}"
            self.assertIn(p.returncode, (0, 125), where)
            if p.returncode:
                refused += 1
                self.assertRegex(p.stderr, r"^supermachine: bake: .*\n$", where)
                if point[0] not in ("unlinkat", "rmdir", "unlink"):
                    self.assertEqual(os.listdir(self.home + "/tmp"), [], where)
            self.expect_sound(where)
        print(f"{refused} of {len(points)} failed calls were refused; there are {len(self.points)} points",
              file=sys.stderr)
        self.assertGreater(refused, 0)


class Verify(Case):
    def test_damaged_snapshot(self):
        """Each file of a snapshot, changed, cut or gone: verify says so, and with --repair it is made anew by the next run."""
        def change(path):
            with open(path, "r+b") as f:
                at = os.path.getsize(path) // 2
                if path.endswith("/ram"):
                    at = os.lseek(f.fileno(), at, os.SEEK_DATA)
                f.seek(at)
                byte = f.read(1)[0]
                f.seek(at)
                f.write(bytes([byte ^ 1]))

        for name in "manifest.json", "state", "ram":
            for harm in change, os.unlink, lambda path: os.truncate(path, 100):
                self.assertEqual(self.run_vm("busybox", "echo", "right"), (0, b"right\n", b""))
                code, out, err = self.call("verify")
                self.assertEqual((code, err), (0, b""))
                self.assertIn(b"1 snapshots", out)
                folder, = os.listdir(self.home + "/snapshots")
                harm(f"{self.home}/snapshots/{folder}/{name}")
                code, out, err = self.call("verify")
                self.assertEqual(code, 1, f"{name}: {out}")
                self.assertIn(folder.encode(), err)
                code, out, err = self.call("verify", "--repair")
                self.assertEqual(code, 0, f"{name}: {err}")
                self.assertEqual(os.listdir(self.home + "/snapshots"), [], name)


if __name__ == "__main__":
    run_tests()
