#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What `supermachine run` does when all is well, and how a VM's own end is reported."""
import hashlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time
import unittest

from program import Case, ENGINE, PATIENCE, PROGRAM, processes_of
from images import *


class Commands(Case):
    def test_hello(self):
        self.expect(0, b"hello\n", "busybox", "echo", "hello")

    def test_streams_and_status(self):
        self.expect(7, b"out\n", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7",
                    want_err=b"err\n")

    def test_uname(self):
        code, out, err = self.run_vm("busybox", "uname", "-sm")
        self.assertEqual((code, out), (0, b"Linux x86_64\n"))

    def test_cpu_v2(self):
        """Whatever the host has: no AVX, and the model's name."""
        code, out, err = self.run_vm("--cpu", "v2", "busybox", "cat", "/proc/cpuinfo")
        self.assertEqual((code, b"model v2" in out, b" avx" in out), (0, True, False), err)

    def test_check(self):
        """A whole boot with its blocks replayed and compared; check_test has faults that it finds."""
        if ENGINE == "kvm":
            self.skipTest("only the soft engine checks itself")
        with open(PROGRAM, "rb") as f:
            if b"__asan_init" in f.read():
                self.skipTest("minutes under a sanitizer; soft_checked is quick there")
        code, out, err = self.run_vm("--engine", "soft", "--check-every", "1000000", "--cold",
                                     "busybox", "true")
        lines = re.findall(rb"vCPU 0: check: (\d+) blocks compared, \d+ passed over;.*\n", err)
        self.assertEqual((code, out, len(lines)), (0, b"", err.count(b"\n")), err)
        self.assertGreaterEqual(int(lines[-1]), 1 << 20)

    def test_trace(self):
        """A command's own events: what it prints leaves by an exit, and its system calls' code runs."""
        if ENGINE == "kvm":
            self.skipTest("only the soft engine traces more than exits")
        log = self.dir + "/trace"
        code, out, err = self.run_vm("--engine", "soft", "--trace", "exits,interrupts,tlb,code=0x401000-0x4010ff",
                                     "--debug-file", log, "busybox", "sh", "-c", "echo traced; sleep 0.2")
        self.assertEqual((code, out, err), (0, b"traced\n", b""))
        with open(log) as f:
            lines = f.read().splitlines()
        for line in lines:
            self.assertRegex(line, r"^vCPU 0: (exit|interrupt|exception|tlb|code) ")
        for form in (r"exit write gpa 0xd\w+ bytes 4 value", r"exit hlt", r"exception 14 \(#PF\) error code 0x\w+ cr2",
                     r"interrupt 0x\w\w at rip 0x\w+", r"tlb fill 0x\w+ -> 0x\w+ (read|write) user",
                     r"tlb flush but global pages", r"code 0x4010\w\w: (\w\w )+ \w+"):
            self.assertTrue(any(re.search(form, line) for line in lines), form)

    def test_boot_without_searches(self):
        """Each access to a port is an exit: the guest looks for no bus that is not there."""
        log = self.dir + "/trace"
        code, out, err = self.run_vm("--trace", "exits", "--debug-file", log, "--cold", "busybox", "true")
        self.assertEqual((code, out, err), (0, b"", b""))
        with open(log) as f:
            ports = re.findall(r" exit (?:in|out) port (0x\w+)", f.read())
        self.assertGreater(ports.count("0x3f8"), 2)
        # One read is for an APIC of AMD's, before the kernel has its command line.
        self.assertLessEqual(len([p for p in ports if p in ("0xcf8", "0xcfc", "0xcfe")]), 2)

    def test_trace_file(self):
        code, out, err = self.run_vm("--trace", "exits", "--debug-file", self.dir + "/no/file", "busybox", "true")
        self.assertEqual((code, out), (125, b""))
        self.assertIn(b"/no/file", err)

    def test_stdin(self):
        self.expect(0, b"abc", "-i", "busybox", "cat", data=b"abc")
        self.expect(0, b"", "-i", "busybox", "cat", data=b"")

    def test_stdin_only_with_i(self):
        self.expect(0, b"0\n", "busybox", "sh", "-c", "cat | wc -c", data=b"abc")

    def test_100_mb(self):
        block = os.urandom(1 << 20)
        data = block * 100
        want = hashlib.sha256(data).hexdigest().encode() + b"  -\n"
        self.expect(0, want, "-i", "busybox", "sha256sum", data=data)

    def test_much_output(self):
        code, out, _ = self.run_vm("busybox", "sh", "-c", "seq 1 1000000")
        self.assertEqual(code, 0)
        self.assertEqual(hashlib.sha256(out).digest(), hashlib.sha256(
            b"".join(b"%d\n" % i for i in range(1, 1000001))).digest())

    def test_slow_reader_loses_nothing(self):
        p = self.start("run", "busybox", "sh", "-c", "seq 1 200000", stdout=subprocess.PIPE)
        time.sleep(8)
        out = p.stdout.read()
        self.assertEqual(p.wait(PATIENCE), 0)
        self.assertEqual(out, b"".join(b"%d\n" % i for i in range(1, 200001)))
        p.stdout.close()

    def test_reader_gone(self):
        """As in `run yes | head -1`: the command gets SIGPIPE, nobody complains."""
        p = self.start("run", "busybox", "yes", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(p.stdout.read(2), b"y\n")
        p.stdout.close()
        self.assertEqual(p.wait(PATIENCE), 128 + signal.SIGPIPE)
        self.assertEqual(p.stderr.read(), b"")
        p.stderr.close()

    def test_full_output(self):
        with open("/dev/full", "wb") as full:
            p = self.start("run", "busybox", "echo", "hello", stdout=full, stderr=subprocess.PIPE)
            err = p.communicate(timeout=PATIENCE)[1]
        self.assertEqual(p.returncode, 125)
        self.assertIn(b"No space left", err)
        self.assertEqual(err.count(b"\n"), 1)

    def test_not_found(self):
        self.refused("run", "busybox", "nosuch", code=127, words=["nosuch", "not found"])
        self.refused("run", "busybox", "/nosuch", code=127, words=["/nosuch"])

    def test_not_executable(self):
        self.refused("run", "busybox", "/tmp", code=126, words=["/tmp"])

    def test_no_such_user(self):
        self.refused("run", "-u", "nobodyhere", "busybox", "true", words=["nobodyhere"])

    def test_signal_status(self):
        self.expect(128 + 9, b"", "busybox", "sh", "-c", "kill -9 $$")

    def test_environment_folder_user(self):
        self.expect(0, b"b\n/tmp\n1000\n", "-e", "A=b", "-w", "/tmp", "-u", "1000", "busybox", "sh",
                    "-c", "echo $A; pwd; id -u")

    def test_groups(self):
        """The primary group is among the supplementary ones, as Docker sets it."""
        groups = "grep ^Groups: /proc/self/status"
        self.expect(0, b"Groups:\t0 \n", "-u", "1000", "busybox", "sh", "-c", groups)
        self.expect(0, b"Groups:\t7 \n", "-u", "1000:7", "busybox", "sh", "-c", groups)

    def test_environment_of_the_host(self):
        self.expect(0, b"from here\n-unset\n", "-e", "SM_GIVEN", "-e", "SM_MISSING", "-e", "X=1",
                    "-eX=2", "--env=Y=3=4", "busybox", "sh", "-c",
                    'echo $SM_GIVEN; echo ${SM_MISSING}-${HOST_ONLY-unset}; test "$X$Y" = 23=4',
                    env=self.env(SM_GIVEN="from here", HOST_ONLY="x"))

    def test_folder_is_made(self):
        self.expect(0, b"/made/here\n", "--workdir=/made/here", "busybox", "pwd")

    def test_group(self):
        self.expect(0, b"1000 7\n", "--user", "1000:7", "busybox", "sh", "-c",
                    "echo $(id -u) $(id -g)")

    def test_tty(self):
        code, out, err = self.run_vm("-t", "busybox", "tty")
        self.assertEqual((code, err), (0, b""))
        self.assertRegex(out, rb"^/dev/pts/\d+\r\n$")
        self.expect(1, b"not a tty\n", "busybox", "tty")

    def test_options_end_at_the_image(self):
        self.expect(0, b"-e --memory -- -h ", "--", "busybox", "printf", "%s ", "-e", "--memory",
                    "--", "-h")

    def test_root_is_writable_and_fresh(self):
        self.expect(0, b"x\n", "busybox", "sh", "-c", "echo x > /new; cat /new")
        self.expect(1, b"", "busybox", "test", "-e", "/new")

    def test_memory(self):
        for mib in (128, 400):
            code, out, err = self.run_vm("--memory", str(mib), "--vcpus", "1",
                                         "--cold", "busybox", "sh", "-c",
                                         "awk '/MemTotal/ {print $2}' /proc/meminfo; nproc")
            self.assertEqual(code, 0, err)
            total, cpus = map(int, out.split())
            self.assertEqual(cpus, 1)
            self.assertTrue(mib * 0.6 < total / 1024 <= mib, out)

    def test_kernel_by_name(self):
        kernel = os.environ["SM_BUILD_DIR"] + "/guest/vmlinuz"
        self.expect(0, b"ok\n", "--kernel", kernel, "busybox", "echo", "ok")


class Images(Case):
    """What an image says about commands, and what flags do to it."""

    def layout(self, name, **config):
        with open("/bin/busybox", "rb") as f:
            busybox = f.read()
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as t:
            info = tarfile.TarInfo("bin/busybox")
            info.mode, info.size = 0o755, len(busybox)
            t.addfile(info, io.BytesIO(busybox))
            for link in ("sh", "echo", "pwd", "id", "cat"):
                info = tarfile.TarInfo("bin/" + link)
                info.type, info.linkname = tarfile.SYMTYPE, "busybox"
                t.addfile(info)
            info = tarfile.TarInfo("etc/passwd")
            text = b"root:x:0:0::/:/bin/sh\nalice:x:1234:5678::/home/alice:/bin/sh\n"
            info.size = len(text)
            t.addfile(info, io.BytesIO(text))
        layer = raw.getvalue()
        l = Layout(f"{self.dir}/{name}")
        l.add(l.image([layer], media=ZSTD, conf=globals()["config"]([layer], config=config)))
        self.layer = layer
        return f"oci:{self.dir}/{name}"

    def test_entrypoint_and_cmd(self):
        ref = self.layout("ec", Entrypoint=["/bin/echo", "e"], Cmd=["c"], Env=["PATH=/bin"])
        self.expect(0, b"e c\n", ref)
        self.expect(0, b"e x y\n", ref, "x", "y")
        self.expect(0, b"\n", "--entrypoint", "/bin/echo", ref)  # clears Cmd
        self.expect(0, b"z\n", "--entrypoint=/bin/echo", ref, "z")
        self.expect(0, b"z\n", "--entrypoint", "", ref, "echo", "z")

    def test_config(self):
        ref = self.layout("c", Cmd=["sh", "-c", "echo $A $B; pwd; id -u; id -g"],
                          Env=["PATH=/bin", "A=image", "B=image"], WorkingDir="/work",
                          User="alice")
        self.expect(0, b"image flag\n/work\n1234\n5678\n", "-e", "B=flag", ref)
        self.expect(0, b"image\n/\n0\n0\n", "-e", "B", "-w", "/", "-u", "0", ref)

    def test_no_command(self):
        ref = self.layout("n", Env=["PATH=/bin"])
        self.refused("run", ref, words=["no command specified"])
        self.expect(0, b"x\n", ref, "echo", "x")

    def test_docker_archive(self):
        self.layout("unused")
        docker_archive(self.dir + "/a.tar", [self.layer],
                       conf=config([self.layer], config={"Cmd": ["/bin/echo", "archive"]}))
        self.expect(0, b"archive\n", f"docker-archive:{self.dir}/a.tar")

    def test_hostile_names_stay_inside(self):
        with open("/bin/busybox", "rb") as f:
            busybox = f.read()
        marker = f"{self.dir}/outside"
        layer = tar([("bin/busybox", busybox), ("../../../../.." + marker, b"x"), (marker, b"x"),
                     ("link", "/"), ("link" + marker, b"x")])
        layer = layer.replace(b"0000644\0", b"0000755\0")
        l = Layout(self.dir + "/hostile")
        l.add(l.image([layer], media=TAR))
        code, _, err = self.run_vm(f"oci:{self.dir}/hostile", "/bin/busybox", "true")
        self.assertIn(code, (0, 125), err)
        self.assertFalse(os.path.exists(marker))


class Ends(Case):
    def test_timeout(self):
        self.run_vm("busybox", "true")  # converts the image
        start = time.monotonic()
        self.refused("run", "--timeout", "2", "busybox", "sleep", "60", code=124,
                     words=["timed out", "2 s"])
        self.assertLess(time.monotonic() - start, 30)  # of 60

    def test_timeout_while_booting(self):
        """--cold: a restored VM may be through with its command within that time."""
        self.refused("run", "--cold", "--timeout", "0.05", "busybox", "true", code=124)

    def test_timeout_not_reached(self):
        self.expect(3, b"", "--timeout", "300", "busybox", "sh", "-c", "exit 3")

    def test_kill_pid_1(self):
        """PID 1 is shielded by the guest's kernel, as in a container: the kill does nothing, and
        the command ends as it would anywhere."""
        self.expect(0, b"alive\n", "busybox", "sh", "-c", "kill -9 1; sleep 1; echo alive")
        self.expect(0, b"", "busybox", "kill", "-9", "1")

    def test_signal_pid_1(self):
        """Any other signal to PID 1 goes to the command, as with Docker's --init."""
        self.expect(128 + 15, b"", "busybox", "sh", "-c", "kill 1; sleep 100")
        self.expect(7, b"", "busybox", "sh", "-c",
                    "trap 'exit 7' USR1; kill -USR1 1; while :; do sleep 0.1; done")

    def test_reboot(self):
        self.refused("run", "busybox", "reboot", "-f", words=["the VM ended", "rebooted"])

    def test_poweroff(self):
        self.refused("run", "busybox", "poweroff", "-f", words=["the VM ended", "powered"])

    def test_panic(self):
        code, out, err = self.run_vm("-u", "0", "busybox", "sh", "-c",
                                     "echo before; echo c > /proc/sysrq-trigger")
        lines = err.decode().splitlines()
        self.assertEqual(code, 125)
        self.assertTrue(lines[-1].startswith("supermachine: run: the VM ended"), lines)
        self.assertIn("Kernel panic - not syncing: sysrq triggered crash", lines[-1])
        self.assertLess(2, len(lines))
        self.assertLessEqual(len(lines), 21)
        self.assertNotIn(b"supermachine", b"\n".join(err.splitlines()[:-1]).replace(
            b"supermachine-agent", b""))

    def test_kill_leaves_nothing(self):
        p = self.start("run", "busybox", "sh", "-c", "echo ready; sleep 1000",
                       stdout=subprocess.PIPE)
        self.assertEqual(p.stdout.readline(), b"ready\n")
        p.kill()
        p.wait(PATIENCE)
        p.stdout.close()
        end = time.monotonic() + PATIENCE  # the VM's process sees that its owner is gone
        while processes_of(p.pid, self.home) and time.monotonic() < end:
            time.sleep(0.01)
        self.assertEqual(processes_of(p.pid, self.home), [])


class OtherCommands(Case):
    def test_version(self):
        for args in (["version"], ["--version"]):
            code, out, err = self.call(*args)
            self.assertEqual((code, err), (0, b""))
            self.assertRegex(out, rb"^supermachine \d+\.\d+\.\d+\n$")

    def test_help(self):
        for args in (["help"], ["--help"], ["-h"]):
            code, out, err = self.call(*args)
            self.assertEqual((code, err), (0, b""))
            for name in (b"run", b"doctor", b"version", b"help"):
                self.assertRegex(out, rb"(?m)^  " + name + rb" ")
        texts = [self.call(*a) for a in (["help", "run"], ["run", "--help"], ["run", "-h"])]
        self.assertEqual(texts[0], texts[1])
        self.assertEqual(texts[0], texts[2])
        for flag in (b"--engine", b"--memory", b"--vcpus", b"-e, --env", b"-w,", b"-u,", b"-i,",
                     b"-t,", b"--entrypoint", b"--kernel", b"--timeout", b"--cold", b"-h,"):
            self.assertIn(flag, texts[0][1])

    def test_no_arguments(self):
        code, out, err = self.call()
        self.assertEqual((code, out), (125, b""))
        self.assertTrue(err.startswith(b"usage: supermachine "))

    def test_doctor(self):
        code, out, err = self.call("doctor")
        self.assertEqual((code, err), (0, b""))
        text = out.decode()
        self.assertRegex(text, r"(?m)^engine (kvm|soft) +usable; chosen by --engine auto")
        self.assertRegex(text, r"(?m)^engine soft +usable")
        if ENGINE == "kvm":
            self.assertRegex(text, r"(?m)^engine kvm +usable; chosen by --engine auto")
        with open("/proc/cpuinfo") as f:
            if not {"vmx", "svm"} & set(f.read().split()):
                self.assertRegex(text, r"(?m)^engine kvm +not usable$")
                self.assertRegex(text, r"(?m)^ +kvm: ")
        self.assertIn(self.home, text)
        self.assertIn("vmlinuz", text)
        self.assertRegex(text, r"(?m)^jail +no-new-privileges")
        if not os.path.exists("/dev/kvm"):
            self.assertIn("/dev/kvm does not exist", text)

    def test_doctor_json(self):
        code, out, err = self.call("doctor", "--json")
        self.assertEqual((code, err), (0, b""))
        found = json.loads(out)
        self.assertTrue(found["ok"])
        self.assertEqual([e["name"] for e in found["engines"]], ["kvm", "soft"])
        self.assertTrue(found["engines"][1]["usable"])
        for engine in found["engines"]:
            self.assertEqual("reason" in engine, not engine["usable"])
        self.assertEqual(found["store"], {"usable": True, "path": self.home, "writable": True})
        self.assertEqual([(f["what"], f["present"]) for f in found["files"]],
                         [("kernel", True), ("initramfs", True), ("image busybox", True)])
        self.assertLess(found["memory_mib"]["min"], found["memory_mib"]["max"])
        self.home = self.dir + '/a "file"'
        with open(self.home, "w"):
            pass
        code, out, err = self.call("doctor", "--json")
        self.assertEqual((code, err), (125, b""))
        self.assertFalse(json.loads(out)["ok"])
        self.assertIn(self.home, json.loads(out)["store"]["reason"])


if __name__ == "__main__":
    run_tests()
