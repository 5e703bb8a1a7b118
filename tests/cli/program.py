# SPDX-License-Identifier: Apache-2.0
"""Running the program: each test with a store of its own, no process left behind, errors in one
line. Timeouts are lenient: the machine may be busy and the program slowed by a sanitizer."""
import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

sys.path.insert(0, os.environ["SM_SOURCE_DIR"] + "/tests/image")

PROGRAM = sys.argv[1]
STORE = os.environ.get("SM_TEST_STORE")  # one for all tests, where making one is slow; unset: one for each class
ENGINE = os.environ.get("SM_TEST_ENGINE")  # the engine of every VM here; unset: as the program chooses
PATIENCE = 240  # seconds for what takes 2 on an idle machine


def processes_of(session, home):
    """What a program started and left behind: processes of its session, and those of VMs from its store, which
    have sessions of their own, that nobody owns."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as f:
                fields = f.read().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z" and (int(fields[3]) == session or fields[1] == "1" and is_vm(pid, home)):
            found.append(int(pid))
    return found


def assert_alone(case, session, seconds=0):
    """Nothing was left behind. A VM whose owner crashed sees it by itself: that takes a moment."""
    end = time.monotonic() + seconds
    while (left := processes_of(session, case.home)) and time.monotonic() < end:
        time.sleep(0.02)
    case.assertEqual(left, [], "processes left behind")


def is_vm(pid, home):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            args = os.fsdecode(f.read()).split("\0")
    except OSError:
        return False
    return "supermachine-vmm" in args[0] and any(a.startswith(f"--layer={home}/") for a in args)


def command_line(args):
    for starts in ("run",), ("pool", "start"):
        if ENGINE and args[:len(starts)] == starts and "--engine" not in args and "--pool" not in args:
            args = (*starts, "--engine", ENGINE, *args[len(starts):])
    return [PROGRAM, *args]


def default_signals():
    """As on a terminal, also when the tests run under nohup or in a shell's background."""
    for number in signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGPIPE:
        signal.signal(number, signal.SIG_DFL)


class Case(unittest.TestCase):
    home = None

    @classmethod
    def setUpClass(cls):
        cls.shared = tempfile.mkdtemp(prefix="sm-cli-")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.shared)

    def setUp(self):
        self.dir = tempfile.mkdtemp(dir=self.shared)
        self.home = STORE or self.shared + "/store"

    def env(self, **more):
        return dict(os.environ, SUPERMACHINE_HOME=self.home, **more)

    def start(self, *args, env=None, **how):
        how.setdefault("preexec_fn", default_signals)
        return subprocess.Popen(command_line(args), env=env or self.env(), start_new_session=True,
                                **how)

    def call(self, *args, data=None, env=None, patience=PATIENCE):
        """Run to the end; bytes in, (code, stdout, stderr) out."""
        with tempfile.TemporaryFile() as errors:  # a sanitizer in a detached VM keeps stderr: no end of a pipe
            p = self.start(*args, env=env, stdin=subprocess.PIPE if data is not None else
                           subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
            try:
                out, _ = p.communicate(data, timeout=patience)
            except subprocess.TimeoutExpired:
                p.kill()
                self.fail(f"{args}: no end; stdout {p.stdout.read()[:2000]}")
            errors.seek(0)
            err = errors.read()
        self.assertEqual(processes_of(p.pid, self.home), [], "processes left behind")
        return p.returncode, out, err

    def run_vm(self, *args, **more):
        return self.call("run", *args, **more)

    def expect(self, want_code, want_out, *args, want_err=b"", **more):
        code, out, err = self.run_vm(*args, **more)
        self.assertEqual((code, out, err), (want_code, want_out, want_err), args)

    def refused(self, *args, words=(), code=125, env=None):
        """One line on stderr, nothing on stdout."""
        got, out, err = self.call(*args, env=env)
        err = err.decode()
        self.assertEqual((got, out), (code, b""), f"{args}: {err}")
        self.assertTrue(err.startswith("supermachine: "), err)
        self.assertEqual(err.count("\n"), 1, err)
        self.assertTrue(err.endswith("\n"), err)
        for word in words:
            self.assertIn(word, err)
        return err


class Pty:
    """The program on a terminal of its own."""

    def __init__(self, case, *args, size=(24, 80)):
        self.case = case
        self.text = b""
        env = case.env()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                default_signals()
                os.execve(PROGRAM, command_line(args), env)
            finally:
                os._exit(99)
        self.resize(*size)
        self.before = termios.tcgetattr(self.fd)
        case.addCleanup(self.close)

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, data):
        os.write(self.fd, data)

    def read(self, seconds):
        """More output, or None at its end."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return b""
        try:
            return os.read(self.fd, 65536) or None
        except OSError:
            return None

    def wait_for(self, want):
        """Read until want has come; returns what came before it, and forgets it."""
        end = time.monotonic() + PATIENCE
        while want not in self.text:
            more = self.read(1)
            if more is None or time.monotonic() > end:
                self.case.fail(f"{want} did not come; there was: {self.text}")
            self.text += more
        before, _, self.text = self.text.partition(want)
        return before

    def wait(self):
        """The exit code, or minus a signal; output goes on being read."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            more = self.read(0.05)
            if more:
                self.text += more
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                while more := self.read(0.2):
                    self.text += more
                session, self.pid = self.pid, 0
                code = os.waitstatus_to_exitcode(status)
                assert_alone(self.case, session, PATIENCE if code < 0 else 0)
                return code
        self.case.fail(f"no end; there was: {self.text}")

    def is_raw(self):
        return not termios.tcgetattr(self.fd)[3] & (termios.ICANON | termios.ECHO)

    def assert_restored(self):
        self.case.assertEqual(termios.tcgetattr(self.fd), self.before)

    def close(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)
