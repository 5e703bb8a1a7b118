#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""VMs with a name: run -d, --name, exec, ps, logs, stop, wait, rm."""
import glob
import json
import os
import signal
import subprocess
import time

from program import Case, PATIENCE, Pty, assert_alone, processes_of
from images import run_tests


class Named(Case):
    def setUp(self):
        super().setUp()
        self.addCleanup(self.forget_all)

    def ok(self, *args, data=None):
        code, out, err = self.call(*args, data=data)
        self.assertEqual((code, err), (0, b""), f"{args}\n{self.last_words()}" if code else args)
        return out.decode()

    def last_words(self):
        """What the owners of VMs said when those ended."""
        said = []
        for path in glob.glob(f"{self.home}/vms/*/messages"):
            with open(path, errors="replace") as f:
                said.append(f"{path}:\n{f.read()}")
        return "\n".join(said)

    def listed(self):
        return {vm["name"]: vm for vm in json.loads(self.ok("ps", "-a", "--json"))}

    def forget_all(self):
        for name in self.listed():
            self.call("rm", "-f", name)
        self.assertEqual(self.listed(), {})

    def detach(self, *args):
        """Start it; its name."""
        name = self.ok("run", "-d", *args)
        self.assertEqual(name.count("\n"), 1)
        return name.strip()

    def wait_until(self, what, seconds=PATIENCE):
        end = time.monotonic() + seconds
        while not what():
            self.assertLess(time.monotonic(), end, "it does not happen")
            time.sleep(0.05)


class Life(Named):
    def test_life(self):
        name = self.detach("-e", "A=b", "--name", "box", "busybox", "sh", "-c",
                           "echo out $A; echo err >&2; trap 'exit 9' TERM; while :; do sleep 0.1; done")
        self.assertEqual(name, "box")
        vm = self.listed()["box"]
        self.assertEqual((vm["status"], vm["image"], vm["exit_code"], vm["detached"]),
                         ("running", "busybox", None, True))
        self.assertTrue(os.path.exists(f"/proc/{vm['pid']}"))
        self.assertEqual(self.call("exec", "box", "sh", "-c", "echo o; echo e >&2; exit 7"),
                         (7, b"o\n", b"e\n"))
        self.assertEqual(self.ok("exec", "-i", "box", "cat", data=b"abc"), "abc")
        self.assertEqual(self.ok("exec", "box", "cat"), "")
        self.assertEqual(self.ok("exec", "-e", "X=y", "-w", "/tmp", "-u", "1000", "box", "sh", "-c",
                                 "echo $X; pwd; id -u"), "y\n/tmp\n1000\n")
        self.assertIn("box", self.ok("ps"))
        self.wait_until(lambda: self.call("logs", "box") == (0, b"out b\n", b"err\n"))
        self.assertEqual(self.ok("stop", "box"), "box\n")
        self.assertEqual(self.ok("wait", "box"), "9\n")
        vm = self.listed()["box"]
        self.assertEqual((vm["status"], vm["exit_code"]), ("ended", 9))
        self.assertNotIn("box", self.ok("ps"))
        self.assertEqual(self.call("logs", "box"), (0, b"out b\n", b"err\n"))
        self.assertIn("has ended, with exit code 9", self.refused("exec", "box", "true"))
        self.assertEqual(self.ok("rm", "box"), "box\n")
        self.refused("logs", "box", words=["no VM named box", "ps -a"])
        self.assertEqual(os.listdir(self.home + "/vms"), [])

    def test_ends_by_itself(self):
        name = self.detach("busybox", "sh", "-c", "seq 5; echo e >&2; exit 5")
        self.assertEqual(len(name), 12)
        self.assertEqual(self.ok("wait", name), "5\n")
        self.assertEqual(self.call("logs", name), (0, b"1\n2\n3\n4\n5\n", b"e\n"))
        code, out, err = self.call("logs", "-n", "2", name)
        self.assertEqual(len((out + err).splitlines()), 2)
        out = self.call("logs", "-t", name)[1].splitlines()
        self.assertRegex(out[4], rb"^2\d\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z 5$")

    def test_stop_of_the_deaf(self):
        self.detach("--name", "deaf", "busybox", "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
        self.assertEqual(self.ok("stop", "-t", "1", "deaf"), "deaf\n")
        self.assertEqual(self.listed()["deaf"]["status"], "ended")

    def test_terminal_and_stdin_stay_open(self):
        self.detach("-it", "--name", "shell", "busybox", "sh")
        tty = Pty(self, "exec", "-it", "shell", "sh", size=(33, 77))
        tty.wait_for(b"# ")
        tty.send(b"stty size\r")
        tty.wait_for(b"33 77")
        tty.send(b"exit 4\r")
        self.assertEqual(tty.wait(), 4)
        tty.assert_restored()
        self.assertEqual(self.listed()["shell"]["status"], "running")
        self.assertEqual(self.ok("rm", "-f", "shell"), "shell\n")

    def test_rm_at_the_end(self):
        self.detach("--rm", "--name", "short", "busybox", "true")
        self.wait_until(lambda: self.listed() == {})

    def test_foreground_with_a_name(self):
        p = self.start("run", "--name", "front", "busybox", "sh", "-c", "echo ready; sleep 1000",
                       stdout=subprocess.PIPE)
        self.assertEqual(p.stdout.readline(), b"ready\n")
        self.assertEqual(self.ok("exec", "front", "echo", "hi"), "hi\n")
        self.refused("logs", "front", words=["foreground"])
        self.assertEqual(self.ok("stop", "front"), "front\n")
        self.assertEqual(p.wait(PATIENCE), 143)
        p.stdout.close()
        self.assertEqual(self.listed(), {})

    def test_follow(self):
        name = self.detach("busybox", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.3; done")
        self.assertEqual(self.ok("logs", "-f", name), "1\n2\n3\n")

    def test_log_is_bounded(self):
        name = self.detach("busybox", "sh", "-c", "yes 123456789012345 | head -c 40000000; echo end")
        self.assertEqual(self.ok("wait", name), "0\n")
        out = self.call("logs", name)[1]
        self.assertTrue(out.endswith(b"123456789012345\nend\n"))
        self.assertGreater(len(out), 15 << 20)
        self.assertLess(len(out), 33 << 20)


class Snapshots(Named):
    def test_snapshot(self):
        self.detach("--name", "box", "busybox", "sleep", "1000")
        self.ok("exec", "box", "sh", "-c", "echo kept >/tmp/file")
        folder = self.dir + "/snap"
        self.assertRegex(self.ok("snapshot", "box", folder), r"^box stood still for \d+ ms\n$")
        self.assertEqual(self.ok("exec", "box", "cat", "/tmp/file"), "kept\n")  # it goes on
        for _ in range(2):
            self.assertEqual(self.ok("run", "snapshot:" + folder, "cat", "/tmp/file"), "kept\n")
        self.refused("snapshot", "box", folder, words=[folder, "exists already"])
        self.refused("snapshot", "box", self.dir + "/no/where", words=["/no/where"])
        self.refused("snapshot", "nobody", self.dir + "/x", words=["no VM named nobody"])
        self.refused("snapshot", "box", words=["a VM and a new folder"])
        self.assertEqual(os.listdir(self.dir), ["snap"])


class Forks(Named):
    def counting(self, name):
        """A VM with a counter in the background, whose file always has a value."""
        self.detach("--name", name, "busybox", "sleep", "100000")
        self.ok("exec", name, "sh", "-c", "(i=0; while :; do i=$((i+1)); echo $i >/n.new; "
                "mv /n.new /n; sleep 0.3; done) >/dev/null 2>&1 </dev/null & sleep 0.5")

    def count(self, name):
        return int(self.ok("exec", name, "cat", "/n"))

    def expect_progress(self, name, least):
        first = self.count(name)
        self.assertGreaterEqual(first, least)
        self.wait_until(lambda: self.count(name) > first)

    def test_clones(self):
        self.counting("box")
        before = self.count("box")
        self.assertEqual(self.ok("fork", "box", "-n", "3", "--name", "twin"),
                         "twin-1\ntwin-2\ntwin-3\n")
        family = ["box", "twin-1", "twin-2", "twin-3"]
        self.assertEqual(sorted(self.listed()), family)
        for command in [["hostname"], ["cat", "/etc/machine-id"],
                        ["sh", "-c", "head -c 16 /dev/urandom | md5sum"]]:
            self.assertEqual(len({self.ok("exec", name, *command) for name in family}), 4)
        for name in family:
            self.expect_progress(name, before)
            self.ok("exec", name, "sh", "-c", f"echo {name} >/mine")
        for name in family:
            self.assertEqual(self.ok("exec", name, "cat", "/mine"), name + "\n")
        self.assertEqual(self.ok("exec", "twin-1", "sh", "-c", "ps | grep -c '[s]leep 100000'; true"),
                         "0\n")  # the VM's command lost its streams
        self.assertEqual(self.listed()["twin-1"]["command"], "(fork of box)")
        self.assertEqual(self.ok("logs", "twin-1"), "")
        child = self.ok("fork", "twin-2").strip()  # of a clone
        self.ok("rm", "-f", "box", "twin-2")
        self.expect_progress(child, before)
        self.assertEqual(self.ok("exec", child, "cat", "/mine"), "twin-2\n")
        self.assertEqual(self.ok("stop", "twin-1", child), f"twin-1\n{child}\n")
        self.assertEqual(self.ok("wait", "twin-1"), "0\n")
        self.assertEqual(self.ok("rm", "twin-1", child), f"twin-1\n{child}\n")
        self.assertEqual(sorted(self.listed()), ["twin-3"])
        self.assertEqual(os.listdir(self.home + "/tmp"), [])

    def test_engine_is_the_originals(self):
        """Not what the host would choose; also a clone's clone."""
        self.detach("--engine", "soft", "--name", "box", "busybox", "sleep", "1000")
        self.ok("fork", "--name", "twin", "box")
        self.ok("fork", "--name", "child", "twin")
        for name in "box", "twin", "child":
            with open(f"{self.home}/vms/{name}/vm.json") as f:
                self.assertEqual(json.load(f)["engine"], 2)  # SM_ENGINE_SOFT
            owner = self.listed()[name]["pid"]
            with open(f"/proc/{owner}/task/{owner}/children") as f:
                vm = f.read().split()[0]
            with open(f"/proc/{vm}/cmdline", "rb") as f:
                self.assertIn(b"--engine=soft", f.read().split(b"\0"))

    def test_signals_to_the_owner(self):
        self.counting("box")
        self.ok("fork", "--name", "gone", "box")
        self.ok("fork", "--name", "killed", "box")
        os.kill(self.listed()["gone"]["pid"], signal.SIGTERM)
        self.assertEqual(self.ok("wait", "gone"), "0\n")
        owner = self.listed()["killed"]["pid"]
        os.kill(owner, signal.SIGKILL)
        assert_alone(self, owner, 5)
        self.wait_until(lambda: self.listed()["killed"]["status"] == "lost")
        self.assertEqual(self.ok("rm", "gone", "killed"), "gone\nkilled\n")
        self.assertEqual(os.listdir(self.home + "/tmp"), [])

    def test_killed_while_forking(self):
        """What had begun goes on and is whole; else there is nothing."""
        self.counting("box")
        for i in range(8):
            p = self.start("fork", "-n", "4", "box", stdout=subprocess.DEVNULL)
            time.sleep(0.02 * i)
            p.kill()
            p.wait()
            self.wait_until(lambda: not processes_of(p.pid, self.home))
            clones = set(self.listed()) - {"box"}
            for name in clones:
                self.assertEqual(self.listed()[name]["status"], "running")
                self.expect_progress(name, 1)
                self.ok("rm", "-f", name)
            self.assertEqual(os.listdir(self.home + "/vms"), ["box"])
            self.assertEqual(os.listdir(self.home + "/tmp"), [])
        self.expect_progress("box", 1)

    def test_refusals(self):
        self.detach("--name", "box", "busybox", "sleep", "1000")
        self.refused("fork", words=["no VM"])
        self.refused("fork", "nobody", words=["no VM named nobody"])
        self.refused("fork", "box", "other", words=["one VM"])
        for number in ["0", "-1", "257", "x", "1x"]:
            self.refused("fork", "box", "--number=" + number, words=["from 1 to 256"])
        self.refused("fork", "box", "--name", "a/b", words=["no name for a VM"])
        self.refused("fork", "box", "--name", "box", words=["there is a VM named box already"])
        self.refused("fork", "-n", "10", "box", "--name", "x" * 61, words=["no name for a VM"])
        self.detach("--name", "shared", "-v", f"{self.dir}:/data", "busybox", "sleep", "1000")
        self.refused("fork", "shared", words=["shared folders", "use volumes"])
        self.assertEqual(sorted(self.listed()), ["box", "shared"])
        self.ok("rm", "-f", "box", "shared")


class Files(Named):
    def write(self, name, data, mode=0o644):
        path = f"{self.dir}/{name}"
        with open(path, "wb") as f:
            f.write(data)
        os.chmod(path, mode)
        return path

    def test_in_and_out(self):
        self.detach("--name", "box", "busybox", "sleep", "1000")
        data = os.urandom(3 << 20)
        source = self.write("in", data, 0o750)
        self.assertEqual(self.ok("cp", source, "box:/new/folder/file"), "")
        self.assertEqual(self.ok("exec", "box", "stat", "-c", "%a %s", "/new/folder/file"),
                         f"750 {len(data)}\n")
        self.ok("cp", source, "box:/tmp")
        self.ok("cp", source, "box:/tmp/")
        self.ok("exec", "box", "cmp", "/tmp/in", "/new/folder/file")
        self.ok("cp", "box:/tmp/in", self.dir + "/out")
        self.ok("cp", "box:/new/folder/file", self.dir)
        for name in "out", "file":
            with open(f"{self.dir}/{name}", "rb") as f:
                self.assertEqual(f.read(), data)
            self.assertEqual(os.stat(f"{self.dir}/{name}").st_mode & 0o777, 0o750)
        self.assertEqual(self.call("cp", "-", "box:/tmp/text", data=b"abc"), (0, b"", b""))
        self.assertEqual(self.ok("cp", "box:/tmp/text", "-"), "abc")

    def test_refused(self):
        self.detach("--name", "box", "busybox", "sleep", "1000")
        source = self.write("in", b"x")
        self.refused("cp", source, words=["one source and one target"])
        self.refused("cp", source, self.dir + "/b", words=["NAME:PATH"])
        self.refused("cp", "box:/a", "box:/b", words=["NAME:PATH"])
        self.refused("cp", source, "box:tmp", words=["must begin with /"])
        self.refused("cp", source, "nobody:/tmp/a", words=["no VM named nobody"])
        self.refused("cp", self.dir + "/none", "box:/tmp/a", words=["/none", "No such file"])
        self.refused("cp", self.dir, "box:/tmp/a", words=["is a folder"])
        self.refused("cp", source, "box:/proc/version/x", words=["/proc/version"])
        self.refused("cp", "box:/none", self.dir + "/out", words=["/none"])
        self.refused("cp", "box:/etc", self.dir + "/out", words=["/etc"])
        self.assertEqual(sorted(os.listdir(self.dir)), ["in"])


class Trouble(Named):
    def test_names(self):
        for bad in ("", "-x", ".x", "a/b", "..", "a b", "x" * 64, "\u00e9"):
            self.refused("run", f"--name={bad}", "busybox", "true", words=["no name for a VM"])
        for command in "exec", "stop", "logs", "rm", "wait":
            more = ["true"] if command == "exec" else []
            self.refused(command, "nobody", *more, words=["no VM named nobody"])
            self.refused(command, "../images", *more, words=["no name for a VM"])
            self.refused(command, words=["no VM given"])
        self.detach("--name", "one", "busybox", "sleep", "1000")
        self.refused("run", "--name", "one", "busybox", "true", words=["named one already"])
        self.refused("rm", "one", words=["one runs"])
        self.refused("exec", "one", words=["no command given"])
        self.refused("stop", "-t", "x", "one", words=["--time x"])
        self.refused("run", "--rm", "busybox", "true", words=["--rm goes with -d"])

    def test_failed_start_leaves_nothing(self):
        self.refused("run", "-d", "--name", "no", "oci:/nowhere", "true", words=["/nowhere"])
        self.refused("run", "-d", "--name", "no", "--kernel", "/dev/null", "busybox", "true")
        self.assertEqual(self.listed(), {})

    def test_owner_killed(self):
        self.detach("--name", "lost", "busybox", "sleep", "1000")
        pid = self.listed()["lost"]["pid"]
        p = self.start("exec", "lost", "sleep", "1000", stderr=subprocess.PIPE)
        time.sleep(0.5)
        os.kill(pid, signal.SIGKILL)
        self.assertEqual(p.wait(PATIENCE), 125)
        assert_alone(self, pid, 5)
        self.assertIn(b"the VM ended", p.stderr.read())
        p.stderr.close()
        self.wait_until(lambda: self.listed()["lost"]["status"] == "lost")
        self.refused("exec", "lost", "true", words=["was lost"])
        self.refused("stop", "lost", words=["was lost"])
        self.assertEqual(self.ok("rm", "lost"), "lost\n")

    def test_client_killed(self):
        self.detach("--name", "box", "busybox", "sleep", "1000")
        p = self.start("exec", "box", "sleep", "777")
        self.wait_until(lambda: "sleep 777" in self.ok("exec", "box", "ps"))
        p.kill()
        p.wait()
        self.wait_until(lambda: "sleep 777" not in self.ok("exec", "box", "ps"))

    def test_signals_of_exec(self):
        self.detach("--name", "box", "busybox", "sleep", "1000")
        p = self.start("exec", "box", "sh", "-c", "trap 'exit 6' INT; echo ready; while :; do sleep 0.1; done",
                       stdout=subprocess.PIPE)
        self.assertEqual(p.stdout.readline(), b"ready\n")
        p.send_signal(signal.SIGINT)
        self.assertEqual(p.wait(PATIENCE), 6)
        p.stdout.close()

    def test_many_at_once(self):
        self.detach("--name", "box", "busybox", "sleep", "1000")
        many = [self.start("exec", "-i", "box", "sh", "-c", f"cat; exit {i}", stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE) for i in range(20)]
        for i, p in enumerate(many):
            self.assertEqual(p.communicate(str(i).encode(), timeout=PATIENCE)[0], str(i).encode())
            self.assertEqual(p.returncode, i)

    def test_vm_that_ends_takes_its_commands_along(self):
        self.detach("--name", "brief", "busybox", "sleep", "3")
        code, out, err = self.call("exec", "brief", "sleep", "1000")
        self.assertEqual((code, out), (125, b""))
        self.assertEqual(err.count(b"\n"), 1)


run_tests()
