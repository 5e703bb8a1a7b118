#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Signals and terminals: who gets a Ctrl-C, sizes, and a terminal that is always restored."""
import os
import re
import signal
import subprocess
import time

from program import Case, PATIENCE, Pty
from images import run_tests

PATIENT = "while :; do sleep 0.1; done"


class Signals(Case):
    def start_ready(self, script, *options):
        p = self.start("run", *options, "busybox", "sh", "-c", script, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE)
        self.addCleanup(p.stderr.close)
        self.addCleanup(p.stdout.close)
        self.assertEqual(p.stdout.readline(), b"ready\n")
        return p

    def takes(self, pid, number):
        """A program's threads wait for a signal, which all of them block."""
        with open(f"/proc/{pid}/status") as f:
            return int(re.search(r"^SigBlk:\s*(\w+)", f.read(), re.M)[1], 16) >> number - 1 & 1

    def test_passed_on(self):
        for name in ("INT", "TERM", "HUP", "QUIT", "USR1", "USR2"):
            p = self.start_ready(f"trap 'echo {name}; exit 9' {name}; echo ready; {PATIENT}")
            p.send_signal(getattr(signal, "SIG" + name))
            self.assertEqual(p.wait(PATIENCE), 9)
            self.assertEqual(p.stdout.read(), name.encode() + b"\n")
            self.assertEqual(p.stderr.read(), b"")

    def test_default_action(self):
        p = self.start_ready("echo ready; exec sleep 1000")
        p.send_signal(signal.SIGTERM)
        self.assertEqual(p.wait(PATIENCE), 128 + signal.SIGTERM)

    def test_second_ends_the_vm(self):
        for s in (signal.SIGINT, signal.SIGTERM):
            p = self.start_ready(f"trap '' INT TERM; echo ready; {PATIENT}")
            p.send_signal(s)
            time.sleep(0.5)
            self.assertIsNone(p.poll())
            p.send_signal(s)
            self.assertEqual(p.wait(PATIENCE), 128 + s)
            err = p.stderr.read()
            self.assertEqual(err.count(b"\n"), 1)
            self.assertIn(b"came twice", err)

    def test_while_booting(self):
        p = self.start("run", "busybox", "true", stdout=subprocess.PIPE)
        end = time.monotonic() + PATIENCE
        while not self.takes(p.pid, signal.SIGINT) and time.monotonic() < end:  # before that it is simply killed
            time.sleep(0.01)
        time.sleep(0.3)
        p.send_signal(signal.SIGINT)
        self.assertIn(p.wait(PATIENCE), (130, 0))
        p.stdout.close()
        self.expect(0, b"ok\n", "busybox", "echo", "ok")  # the store is as good as before

    def test_ignored_stays_ignored(self):
        """As under nohup."""
        p = self.start("run", "busybox", "sh", "-c", "echo ready; sleep 2; echo done",
                       stdout=subprocess.PIPE,
                       preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        self.assertEqual(p.stdout.readline(), b"ready\n")
        p.send_signal(signal.SIGHUP)
        self.assertEqual(p.stdout.read(), b"done\n")
        self.assertEqual(p.wait(PATIENCE), 0)
        p.stdout.close()


class Terminals(Case):
    def test_ctrl_c_once(self):
        t = Pty(self, "run", "busybox", "sh", "-c",
                f"trap 'echo got; exit 9' INT; echo ready; {PATIENT}")
        t.wait_for(b"ready")
        t.send(b"\x03")
        t.wait_for(b"got")
        self.assertEqual(t.wait(), 9)

    def test_ctrl_c_twice(self):
        t = Pty(self, "run", "busybox", "sh", "-c", f"trap '' INT; echo ready; {PATIENT}")
        t.wait_for(b"ready")
        t.send(b"\x03")
        time.sleep(0.5)
        t.send(b"\x03")
        self.assertEqual(t.wait(), 130)
        self.assertIn(b"the VM was ended", t.text)

    def test_shell(self):
        t = Pty(self, "run", "-it", "busybox", "sh", size=(31, 97))
        t.wait_for(b"# ")
        self.assertTrue(t.is_raw())
        t.send(b"stty size; tty\n")
        t.wait_for(b"31 97\r\n/dev/pts/")
        t.send(b"sleep 1000; echo no; false\n")
        t.wait_for(b"false\r\n")
        time.sleep(1)
        t.send(b"\x03")  # through the guest's terminal, to the sleep
        t.wait_for(b"# ")
        t.resize(41, 113)
        end = time.monotonic() + PATIENCE
        seen = b""
        while b"41 113" not in seen and time.monotonic() < end:
            t.send(b'echo "=$(stty size)="\n')
            t.wait_for(b"\r\n=")
            seen = t.wait_for(b"=\r\n")
        self.assertIn(b"41 113", seen)
        t.send(b"exit 5\n")
        self.assertEqual(t.wait(), 5)
        t.assert_restored()

    def test_end_of_input(self):
        t = Pty(self, "run", "-i", "-t", "busybox", "cat")
        end = time.monotonic() + PATIENCE
        while not t.is_raw() and time.monotonic() < end:
            time.sleep(0.05)
        t.send(b"line\r")
        t.wait_for(b"line\r\nline\r\n")
        t.send(b"\x04")
        self.assertEqual(t.wait(), 0)
        t.assert_restored()

    def test_winch_reaches_the_command(self):
        t = Pty(self, "run", "-t", "busybox", "sh", "-c",
                f"trap 'stty size; exit 3' WINCH; echo ready; {PATIENT}")
        t.wait_for(b"ready")
        t.resize(12, 34)
        t.wait_for(b"12 34")
        self.assertEqual(t.wait(), 3)

    def restored_after(self, script, code, *words, signals=()):
        t = Pty(self, "run", "-it", "busybox", "sh", "-c", script)
        t.wait_for(b"ready")
        if signals:
            self.assertTrue(t.is_raw())
        for s in signals:
            os.kill(t.pid, s)
            time.sleep(0.5)
        self.assertEqual(t.wait(), code)
        t.assert_restored()
        for word in words:
            self.assertIn(word, t.text)
            # On a line of its own: the terminal was restored before the message.
            self.assertNotIn(b"\n\n", t.text)

    def test_restored_after_the_guests_end(self):
        self.restored_after("echo ready; reboot -f; sleep 1000", 125, b"supermachine: run: the VM ended")

    def test_restored_after_signals(self):
        self.restored_after(f"trap '' TERM; echo ready; {PATIENT}", 128 + signal.SIGTERM, b"came twice",
                            signals=[signal.SIGTERM] * 2)

    def test_restored_after_a_crash(self):
        t = Pty(self, "run", "-it", "busybox", "sh", "-c", "echo ready; sleep 1000")
        t.wait_for(b"ready")
        self.assertTrue(t.is_raw())
        os.kill(t.pid, signal.SIGSEGV)
        self.assertEqual(t.wait(), -signal.SIGSEGV)
        t.assert_restored()


if __name__ == "__main__":
    run_tests()
