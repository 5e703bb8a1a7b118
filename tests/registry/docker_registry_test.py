#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pulls from Debian's docker-registry on loopback, where skopeo has put the images: plain, with TLS, with
a password. What arrives is what was pushed."""
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import unittest

from case import *


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@unittest.skipUnless(shutil.which("docker-registry") and shutil.which("skopeo"),
                     "docker-registry or skopeo is not installed")
class DockerRegistry(unittest.TestCase):
    tls = False
    password = None

    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="sm-dreg-")
        cls.addClassCleanup(shutil.rmtree, cls.dir)
        cls.host = f"127.0.0.1:{free_port()}"
        conf = ["version: 0.1", "log: {level: error, accesslog: {disabled: true}}",
                f"storage: {{filesystem: {{rootdirectory: {cls.dir}/data}}}}"]
        http = f"addr: {cls.host}"
        if cls.tls:
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                            "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", cls.dir + "/key",
                            "-out", cls.dir + "/cert"], check=True, capture_output=True)
            http += f", tls: {{certificate: {cls.dir}/cert, key: {cls.dir}/key}}"
        if cls.password:
            user, password = cls.password.split(":")
            with open(cls.dir + "/htpasswd", "w") as f:
                subprocess.run(["htpasswd", "-Bbn", user, password], check=True, stdout=f)
            conf.append(f"auth: {{htpasswd: {{realm: test, path: {cls.dir}/htpasswd}}}}")
        conf.append(f"http: {{{http}}}")
        with open(cls.dir + "/conf.yml", "w") as f:
            f.write("\n".join(conf) + "\n")
        cls.server = subprocess.Popen(["docker-registry", "serve", cls.dir + "/conf.yml"],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        cls.addClassCleanup(lambda: (cls.server.kill(), cls.server.wait()))
        for _ in range(200):
            try:
                socket.create_connection(cls.host.split(":")).close()
                break
            except OSError:
                time.sleep(0.05)
        lay = Layout(cls.dir + "/l")
        lay.add(lay.image([A, B]), tag="1")
        more = ["--dest-creds", cls.password] if cls.password else []
        for name, options in (("oci", []), ("docker", ["--format", "v2s2"])):
            subprocess.run(["skopeo", "copy", "-q", "--dest-tls-verify=false", *more, *options,
                            f"oci:{lay.path}:1", f"docker://{cls.host}/t/{name}:1"], check=True)
        r = subprocess.run([TOOL, f"oci:{lay.path}:1", cls.dir + "/want"], capture_output=True, check=True)
        cls.want = json.loads(r.stdout)

    def setUp(self):
        self.store = tempfile.mkdtemp(dir=self.dir)
        self.env = environment(self.dir, SUPERMACHINE_HOME=self.store)

    def pull(self, ref, *options, **env):
        return subprocess.run([CLI, "pull", *options, ref], capture_output=True, text=True, timeout=60,
                              env={**self.env, **env})

    def right(self, *options, **env):
        for name in ("oci", "docker"):
            ref = f"{self.host}/t/{name}:1"
            r = self.pull(ref, *options, **env)
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertIn("ready", r.stderr)
            got = json.loads(subprocess.run([TOOL, ref, self.store], capture_output=True, check=True,
                                            env=self.env).stdout)
            self.assertEqual([x["diff_id"] for x in got["layers"]], [x["diff_id"] for x in self.want["layers"]])
            for x, y in zip(got["layers"], self.want["layers"]):
                with open(x["path"], "rb") as f, open(y["path"], "rb") as g:
                    self.assertEqual(f.read(), g.read())
            digest = subprocess.run(["skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}",
                                     *(["--creds", self.password] if self.password else []),
                                     "docker://" + ref], capture_output=True, text=True, check=True).stdout
            self.assertEqual(r.stdout.split(), [ref, digest.strip()])

    def wrong(self, *words, options=(), **env):
        r = self.pull(f"{self.host}/t/oci:1", *options, **env)
        self.assertEqual(r.returncode, 125)
        for w in words:
            self.assertIn(w, r.stderr)
        self.assertEqual(os.listdir(self.store + "/images"), [])


class Plain(DockerRegistry):
    def test_pull(self):
        self.right()

    def test_absent(self):
        r = self.pull(f"{self.host}/t/oci:2")
        self.assertEqual(r.returncode, 125)
        self.assertIn("has no t/oci:2", r.stderr)


class Tls(DockerRegistry):
    tls = True

    def test_trusted(self):
        self.right(SSL_CERT_FILE=self.dir + "/cert")

    def test_insecure(self):
        self.right("--insecure-registry", self.host)

    def test_unknown_certificate(self):
        self.wrong("is not trusted", "SSL_CERT_FILE", "--insecure-registry")

    def test_wrong_name(self):
        host = self.host.replace("127.0.0.1", "localhost")
        r = self.pull(f"{host}/t/oci:1", SSL_CERT_FILE=self.dir + "/cert")
        self.assertEqual(r.returncode, 125)
        self.assertIn("is not trusted", r.stderr)

    def test_missing_authorities(self):
        self.wrong("", SSL_CERT_FILE=self.dir + "/none")


class Password(DockerRegistry):
    password = "user:secret-word"

    def test_right(self):
        self.right(SUPERMACHINE_REGISTRY_AUTH=f"{self.host}={self.password}")

    def test_none(self):
        self.wrong("docker login")

    def test_false(self):
        self.wrong("denies access", SUPERMACHINE_REGISTRY_AUTH=f"{self.host}=user:wrong")


del DockerRegistry  # only its forms are tests
if __name__ == "__main__":
    run_tests()
