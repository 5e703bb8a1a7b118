#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pools: pool start, ls, stop, and run --pool, whose commands are as those of run."""
import concurrent.futures
import io
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import tarfile
import time
import unittest

from program import Case, PATIENCE, PROGRAM, Pty, is_vm, processes_of
from images import Layout, config, run_tests

PATIENT = "while :; do sleep 0.1; done"


def busybox_layer():
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as t:
        info = t.gettarinfo("/bin/busybox", "bin/busybox")
        with open("/bin/busybox", "rb") as f:
            t.addfile(info, f)
    return raw.getvalue()


def runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def is_orphan(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[1] == "1"
    except OSError:
        return False


class Pooled(Case):
    def setUp(self):
        super().setUp()
        self.addCleanup(self.stop_all)

    def ok(self, *args, data=None):
        code, out, err = self.call(*args, data=data)
        self.assertEqual((code, err), (0, b""), args)
        return out.decode()

    def pools(self):
        return {p["image"]: p for p in json.loads(self.ok("pool", "ls", "--json"))}

    def stop_all(self):
        for image in self.pools():
            self.call("pool", "stop", image)
        self.assertEqual(self.pools(), {})
        self.assertEqual(self.vms(), [])

    def vms(self):
        """Processes of VMs from this store."""
        return [pid for pid in filter(str.isdigit, os.listdir("/proc")) if is_vm(pid, self.home)]

    def pool(self, *args):
        self.assertEqual(self.ok("pool", "start", *args), args[-1] + "\n")

    def pooled(self, *args, data=None):
        return self.call("run", "--pool", *args, data=data)

    def begin(self, script, *options):
        """A command in the pool that has said it is ready."""
        p = self.start("run", "--pool", *options, "busybox", "sh", "-c", script, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE)
        self.addCleanup(p.stderr.close)
        self.addCleanup(p.stdout.close)
        self.assertEqual(p.stdout.readline(), b"ready\n")
        return p

    def wait_until(self, what, seconds=PATIENCE):
        end = time.monotonic() + seconds
        while not what():
            self.assertLess(time.monotonic(), end, "it does not happen")
            time.sleep(0.05)


class Life(Pooled):
    def test_life(self):
        self.assertEqual(self.ok("pool", "ls"), "no pools\n")
        self.pool("--max", "3", "busybox")
        self.wait_until(lambda: self.pools()["busybox"]["ready"] == 2)
        p = self.pools()["busybox"]
        self.assertEqual((p["status"], p["used"], p["min"], p["max"], p["acquired"]), ("running", 0, 2, 3, 0))
        self.assertTrue(runs(p["pid"]))
        self.assertRegex(self.ok("pool", "ls"), r"^IMAGE .*\nbusybox +running +2 +0 +2 +3 +0 +\d+\n$")
        self.assertEqual(self.pooled("busybox", "echo", "hello"), (0, b"hello\n", b""))
        self.wait_until(lambda: self.pools()["busybox"]["acquired"] == 1)
        self.refused("pool", "start", "busybox", words=["a pool of busybox already", "pool stop busybox"])
        self.assertEqual(self.ok("pool", "stop", "busybox"), "busybox\n")
        self.wait_until(lambda: not runs(p["pid"]))
        self.assertEqual(self.vms(), [])
        self.assertEqual(os.listdir(self.home + "/pools"), [])
        for command in ["run", "--pool", "busybox", "true"], ["pool", "stop", "busybox"]:
            self.refused(*command, words=["no pool of busybox", "pool start busybox"])

    def test_each_command_gets_a_fresh_vm(self):
        self.pool("--max", "2", "busybox")
        seen = set()
        for i in range(5):
            out = self.pooled("busybox", "sh", "-c", f"ls /mine 2>&1; echo {i} >/mine; "
                              "cat /etc/machine-id; hostname; head -c 16 /dev/urandom | md5sum")
            lines = out[1].decode().split("\n")
            self.assertIn("No such file", lines[0])
            seen.update(lines[1:4])
        self.assertEqual(len(seen), 15)

    def test_kept_vm(self):
        self.pool("--keep", "--min", "1", "--max", "1", "busybox")
        self.assertEqual(self.pooled("busybox", "sh", "-c", "echo kept >/mine"), (0, b"", b""))
        self.assertEqual(self.pooled("busybox", "cat", "/mine"), (0, b"kept\n", b""))

    def test_many_at_once(self):
        self.pool("--min", "1", "--max", "3", "busybox")
        many = [self.start("run", "-i", "--pool", "busybox", "sh", "-c", f"cat; exit {i}", stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE) for i in range(12)]
        for i, p in enumerate(many):
            self.assertEqual(p.communicate(str(i).encode(), timeout=PATIENCE)[0], str(i).encode())
            self.assertEqual(p.returncode, i)
        self.wait_until(lambda: self.pools()["busybox"]["used"] == 0)
        self.assertEqual(self.pools()["busybox"]["acquired"], 12)

    def test_started_twice_at_once(self):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            ends = list(pool.map(lambda _: self.call("pool", "start", "busybox"), range(4)))
        for code, _, err in ends:
            self.assertEqual(code != 0, b"a pool of busybox already" in err, err)
        self.assertEqual(sorted((code, out) for code, out, _ in ends), [(0, b"busybox\n")] + 3 * [(125, b"")])

    def test_machine(self):
        self.pool("--memory", "200", "--vcpus", "2", "busybox")
        _, out, _ = self.pooled("busybox", "sh", "-c", "nproc; awk '/MemTotal/ {print $2}' /proc/meminfo")
        cpus, kib = map(int, out.split())
        self.assertEqual(cpus, 2)
        self.assertTrue(100 < kib / 1024 <= 200, kib)

    def test_idle_vms_end(self):
        self.pool("--min", "0", "--idle-timeout", "1", "busybox")
        self.assertEqual(self.pooled("busybox", "echo", "x"), (0, b"x\n", b""))
        self.wait_until(lambda: self.pools()["busybox"]["ready"] == 0 and not self.vms())
        self.assertEqual(self.pooled("busybox", "echo", "y"), (0, b"y\n", b""))


class Commands(Pooled):
    def test_as_run(self):
        self.pool("--max", "4", "busybox")
        for want, args in [
                ((7, b"out\n", b"err\n"), ["busybox", "sh", "-c", "echo out; echo err >&2; exit 7"]),
                ((0, b"y\n/tmp\n1000\n", b""), ["-e", "X=y", "-w", "/tmp", "-u", "1000", "busybox", "sh", "-c",
                                                "echo $X; pwd; id -u"]),
                ((0, b"", b""), ["busybox", "cat"]),  # no stdin
                ((137, b"", b""), ["busybox", "sh", "-c", "kill -9 $$"]),
                ((0, b"Linux\n", b""), ["--entrypoint", "uname", "busybox", "-s"])]:
            self.assertEqual(self.pooled(*args), want)
            self.assertEqual(self.run_vm(*args), want)
        for code, command in (127, "nonesuch"), (126, "/etc"):
            texts = {self.refused("run", *how, "busybox", command, code=code) for how in ([], ["--pool"])}
            self.assertEqual(len(texts), 1, texts)
        data = os.urandom(1 << 20)
        self.assertEqual(self.pooled("-i", "busybox", "cat", data=data), (0, data, b""))

    def test_image_says_command(self):
        layer = busybox_layer()
        said = {"Entrypoint": ["/bin/busybox", "echo", "e"], "Cmd": ["c"], "Env": ["A=b"]}
        layout = Layout(self.dir + "/layout")
        layout.add(layout.image([layer], conf=config([layer], config=said)), tag="app:1")
        ref = "oci:" + self.dir + "/layout"
        self.pool(ref)
        self.assertEqual(self.pooled(ref), (0, b"e c\n", b""))
        self.assertEqual(self.pooled(ref, "x"), (0, b"e x\n", b""))
        self.assertEqual(self.pooled("--entrypoint", "/bin/busybox", ref, "echo", "z"), (0, b"z\n", b""))
        self.assertEqual(self.pooled("--entrypoint", "", ref, "/bin/busybox", "env")[1].count(b"A=b\n"), 1)
        self.refused("run", "--pool", "--entrypoint", "", ref, words=["no command specified"])
        inside = subprocess.run([os.path.abspath(PROGRAM), "run", "--pool", "oci:layout"], cwd=self.dir, env=self.env(),
                                capture_output=True)  # the same by another path
        self.assertEqual((inside.returncode, inside.stdout), (0, b"e c\n"))

    def test_any_name_of_an_image(self):
        layer = busybox_layer()
        layout = Layout(self.dir + "/layout")
        layout.add(layout.image([layer], conf=config([layer], config={"Cmd": ["/bin/busybox", "echo", "hi"]})))
        self.ok("load", "-i", self.dir + "/layout", "--name", "team/app:1")
        self.pool("team/app:1")
        self.assertEqual(list(self.pools()), ["docker.io/team/app:1"])
        for name in "team/app:1", "docker.io/team/app:1":
            self.assertEqual(self.pooled(name), (0, b"hi\n", b""))
            self.refused("pool", "start", name, words=["already"])
        self.refused("run", "--pool", "team/app:2", words=["no pool of team/app:2"])
        self.assertEqual(self.ok("pool", "stop", "team/app:1"), "team/app:1\n")

    def test_terminal(self):
        self.pool("busybox")
        tty = Pty(self, "run", "-it", "--pool", "busybox", "sh", size=(33, 77))
        tty.wait_for(b"# ")
        self.assertTrue(tty.is_raw())
        tty.send(b"stty size\r")
        tty.wait_for(b"33 77")
        tty.resize(44, 88)
        tty.wait_for(b"# ")
        tty.send(b"while [ \"$(stty size)\" != '44 88' ]; do sleep 0.1; done; echo so''it is\r")
        tty.wait_for(b"soit is")
        tty.send(b"(echo na''pping; sleep 1000)\r")
        tty.wait_for(b"napping")
        tty.send(b"\x03")
        tty.wait_for(b"# ")
        tty.send(b"exit 4\r")
        self.assertEqual(tty.wait(), 4)
        tty.assert_restored()

    def test_signals(self):
        self.pool("--max", "2", "busybox")
        for name in "INT", "TERM", "USR1":
            p = self.begin(f"trap 'echo {name}; exit 9' {name}; echo ready; {PATIENT}")
            p.send_signal(getattr(signal, "SIG" + name))
            self.assertEqual((p.wait(PATIENCE), p.stdout.read(), p.stderr.read()), (9, name.encode() + b"\n", b""))
        p = self.begin(f"trap '' INT; echo ready; {PATIENT}")
        p.send_signal(signal.SIGINT)
        time.sleep(0.5)
        self.assertIsNone(p.poll())
        p.send_signal(signal.SIGINT)
        self.assertEqual(p.wait(PATIENCE), 130)
        self.assertRegex(p.stderr.read(), rb"^supermachine: run: busybox: SIGINT came twice.*\n$")
        self.wait_until(lambda: self.pools()["busybox"]["used"] == 0)

    def test_timeout(self):
        self.pool("--max", "1", "busybox")
        start = time.monotonic()
        self.refused("run", "--pool", "--timeout", "1", "busybox", "sleep", "1000", code=124,
                     words=["timed out", "1 s"])
        self.assertLess(time.monotonic() - start, 60)
        self.assertEqual(self.pooled("busybox", "echo", "x"), (0, b"x\n", b""))


class Trouble(Pooled):
    def test_client_killed(self):
        self.pool("--min", "1", "--max", "1", "busybox")
        p = self.begin(f"trap '' INT TERM HUP; echo ready; {PATIENT}")
        p.kill()
        p.wait()
        self.assertEqual(self.pooled("busybox", "echo", "x"), (0, b"x\n", b""))

    def test_all_in_use(self):
        self.pool("--min", "1", "--max", "1", "--acquire-timeout", "1", "busybox")
        p = self.begin(f"echo ready; {PATIENT}")
        self.refused("run", "--pool", "busybox", "true", words=["1 in use", "at most 1"])
        p.send_signal(signal.SIGTERM)
        self.assertEqual(p.wait(PATIENCE), 143)
        self.assertEqual(self.pooled("busybox", "echo", "x"), (0, b"x\n", b""))

    def test_stop_ends_commands(self):
        self.pool("busybox")
        p = self.begin(f"trap '' TERM; echo ready; {PATIENT}")
        self.assertEqual(self.ok("pool", "stop", "busybox"), "busybox\n")
        self.assertEqual(p.wait(PATIENCE), 125)
        self.assertEqual(p.stderr.read().count(b"\n"), 1)
        self.assertEqual((self.pools(), self.vms()), ({}, []))

    def test_signal_to_the_pool(self):
        self.pool("busybox")
        os.kill(self.pools()["busybox"]["pid"], signal.SIGTERM)
        self.wait_until(lambda: not self.pools() and not self.vms())
        self.refused("run", "--pool", "busybox", "true", words=["no pool of busybox"])

    def test_pool_killed(self):
        self.pool("busybox")
        p = self.begin(f"echo ready; {PATIENT}")
        self.assertGreater(len(self.vms()), 0)
        os.kill(self.pools()["busybox"]["pid"], signal.SIGKILL)
        self.assertEqual(p.wait(PATIENCE), 125)
        self.assertRegex(p.stderr.read(), rb"^supermachine: run: busybox: the VM ended before the command did\n$")
        self.wait_until(lambda: not self.vms())
        self.assertEqual(self.pools()["busybox"]["status"], "lost")
        self.refused("run", "--pool", "busybox", "true", words=["was lost", "killed", "pool start busybox"])
        self.expect(0, b"x\n", "busybox", "echo", "x")
        self.pool("busybox")  # in its place
        self.assertEqual(self.pooled("busybox", "echo", "y"), (0, b"y\n", b""))
        os.kill(self.pools()["busybox"]["pid"], signal.SIGKILL)
        self.wait_until(lambda: not self.vms())  # each sees it by itself: that takes a moment
        self.wait_until(lambda: self.pools()["busybox"]["status"] == "lost")
        self.assertEqual(self.ok("pool", "stop", "busybox"), "busybox\n")
        self.assertEqual(os.listdir(self.home + "/pools"), [])

    def test_vm_killed(self):
        self.pool("--min", "1", "--max", "1", "busybox")
        for _ in range(2):
            self.wait_until(lambda: len(self.vms()) == 1)
            os.kill(int(self.vms()[0]), signal.SIGKILL)
            self.assertEqual(self.pooled("busybox", "echo", "x"), (0, b"x\n", b""))

    def test_killed_while_starting(self):
        for i in range(6):
            p = self.start("pool", "start", "busybox", stdout=subprocess.DEVNULL)
            time.sleep(0.05 * i)
            for pid in processes_of(p.pid, self.home) or [p.pid]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            p.wait()
            self.wait_until(lambda: not any(is_orphan(pid) for pid in self.vms()))
            if any(x["status"] == "running" for x in self.pools().values()):  # it was quicker
                self.ok("pool", "stop", "busybox")
        self.pool("busybox")
        self.assertEqual(self.pooled("busybox", "echo", "x"), (0, b"x\n", b""))

    def test_failed_start_leaves_nothing(self):
        self.refused("pool", "start", "oci:/nowhere", words=["/nowhere"])
        self.refused("pool", "start", "--kernel", "/dev/null", "busybox", words=["busybox"])
        self.refused("pool", "start", "--kernel", "/none", "busybox", words=["/none", "No such file"])
        self.assertEqual((self.pools(), self.vms()), ({}, []))

    def test_refused_arguments(self):
        for args in [], ["x"], ["start"], ["start", "a", "b"], ["ls", "x"], ["stop"], ["start", "--json", "a"], \
                ["stop", "--json", "a"]:
            self.refused("pool", *args, words=["must be start [OPTION...] IMAGE, ls [--json] or stop IMAGE..."])
        self.refused("pool", "ls", "--min", "1", words=["no options"])
        self.refused("pool", "start", "--min", "3", "--max", "2", "busybox", words=["--min 3", "--max 2"])
        for option in ["--min=x", "--max=0", "--max=4097", "--idle-timeout=0", "--acquire-timeout=-1"]:
            self.refused("pool", "start", option, "busybox", words=["must be a number"])
        for option in ["-d"], ["--name", "x"], ["-v", "a:/b"], ["--cold"], ["--memory", "300"], ["--engine", "soft"]:
            self.refused("run", "--pool", *option, "busybox", "true", words=["run already"])


class Access(Pooled):
    def test_modes(self):
        old = os.umask(0)
        self.addCleanup(os.umask, old)
        self.pool("busybox")
        folder = self.home + "/pools/" + os.listdir(self.home + "/pools")[0]
        self.assertEqual(stat.S_IMODE(os.stat(folder).st_mode), 0o700)
        self.assertEqual(stat.S_IMODE(os.stat(folder + "/control").st_mode), 0o600)

    @unittest.skipUnless(os.geteuid() == 0, "needs root, to be somebody else")
    def test_another_user_is_refused(self):
        """Even if the modes let him in."""
        self.pool("busybox")
        folder = self.home + "/pools/" + os.listdir(self.home + "/pools")[0]
        os.chmod(folder, 0o755)
        os.chmod(folder + "/control", 0o666)
        script = ("import os, socket, sys\n"
                  "os.setuid(65534)\n"
                  "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
                  "s.connect(f'/proc/self/fd/{sys.argv[1]}/control')\n"
                  "sys.stdout.buffer.write(s.recv(4096))\n")
        fd = os.open(folder, os.O_RDONLY)
        out = subprocess.run(["python3", "-c", script, str(fd)], pass_fds=[fd], capture_output=True, check=True).stdout
        os.close(fd)
        self.assertEqual(struct.unpack_from("<i", out, 8)[0], 125)
        self.assertEqual(out[16:], b"refused\0")

    def test_nonsense_on_the_socket(self):
        self.pool("--max", "2", "busybox")
        folder = self.home + "/pools/" + os.listdir(self.home + "/pools")[0]
        head = struct.pack("<4sIii", b"SMC1", 10, 0, 0)  # WIRE_RUN
        for message in [b"", b"x", head, head + b"1\0\0\0true", head + b"1\0\0\0true\0", head + b"99999\0\0\0a\0",
                        head + b"-1\0\0\0a\0", struct.pack("<4sIii", b"SMC1", 77, 0, 0)]:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
                s.connect(folder + "/control")
                if message:
                    s.send(message)
                    s.settimeout(PATIENCE)
                    self.assertRegex(s.recv(4096)[16:], rb"^(a malformed|an unknown) request")
        self.assertEqual(self.pooled("busybox", "echo", "x"), (0, b"x\n", b""))


run_tests()
