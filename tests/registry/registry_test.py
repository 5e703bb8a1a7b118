#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pulls from a registry that lies, stalls, redirects and asks for passwords. After each: what the store
has is right, nothing half-made is left, and no credential was seen where it does not belong."""
import base64
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from case import *

USER = "canary-user:canary-pass"
SECRET = base64.b64encode(USER.encode()).decode()


class RegistryCase(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="sm-reg-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.store = self.dir + "/store"
        self.env = environment(self.dir, TOOL_ATTEMPTS="3")
        self.r = self.registry()
        self.ref = f"{self.r.host}/t/image:1"

    def registry(self, *args, **more):
        r = Registry(*args, **more)
        self.addCleanup(r.close)
        return r

    def run_tool(self, ref=None, timeout=90, **env):
        return subprocess.run([TOOL, ref or self.ref, self.store], capture_output=True, text=True,
                              timeout=timeout, env={**self.env, **env})

    def good(self, ref=None, **env):
        r = self.run_tool(ref, **env)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.sound()
        return json.loads(r.stdout)

    def refused(self, *words, ref=None, images=0, **env):
        r = self.run_tool(ref, **env)
        self.assertEqual(r.returncode, 125, r.stdout + r.stderr)
        for w in words:
            self.assertIn(w, r.stderr)
        self.assertNotIn("canary-pass", r.stderr + r.stdout)
        self.assertNotIn(SECRET, r.stderr + r.stdout)
        self.sound(images)
        return r.stderr

    def files(self, folder):
        path = f"{self.store}/{folder}"
        return sorted(os.listdir(path)) if os.path.isdir(path) else []

    def sound(self, images=None):
        """Every blob is what it is called, and nothing is half-made."""
        for name in self.files("blobs/sha256"):
            with open(f"{self.store}/blobs/sha256/{name}", "rb") as f:
                self.assertEqual(hashlib.sha256(f.read()).hexdigest(), name)
        self.assertEqual(self.files("tmp"), [])
        if images is not None:
            self.assertEqual(len(self.files("images")), images)

    def answer(self, pattern, *replies):
        """Answer the n-th matching request with the n-th reply; after the last as usual."""
        left = list(replies)
        self.r.on(pattern, lambda h: left.pop(0)(h) if left else False)


class Library(RegistryCase):
    """libcurl is there when a registry is asked, and only then."""

    def test_not_linked(self):
        for program in (TOOL, CLI):
            linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
            self.assertNotIn("libcurl", linked)

    def test_not_installed(self):
        os.mkdir(self.dir + "/lib")
        with open(self.dir + "/lib/libcurl.so.4", "w") as f:
            f.write("no library")
        self.r.add([A])
        self.refused("libcurl 7.85 or later", "libcurl.so.4", "install it", LD_LIBRARY_PATH=self.dir + "/lib")
        lay = Layout(self.dir + "/l")
        lay.add(lay.image([A]))
        self.good("oci:" + lay.path, LD_LIBRARY_PATH=self.dir + "/lib")
        self.good()


class Good(RegistryCase):
    def test_same_as_layout(self):
        self.r.add([A, B])
        got = self.good()
        lay = Layout(self.dir + "/l")
        lay.add(lay.image([A, B]))
        r = subprocess.run([TOOL, "oci:" + lay.path, self.dir + "/other"], capture_output=True, check=True)
        want = json.loads(r.stdout)
        self.assertEqual(got["config_digest"], want["config_digest"])
        for x, y in zip(got["layers"], want["layers"]):
            with open(x["path"], "rb") as f, open(y["path"], "rb") as g:
                self.assertEqual(f.read(), g.read())

    def test_second_time_asks_nobody(self):
        self.r.add([A])
        self.good()
        n = len(self.r.requests())
        self.good()
        self.assertEqual(len(self.r.requests()), n)
        self.good(TOOL_FRESH="1")  # only what the name means now
        self.assertEqual([r[0] for r in self.r.requests()][n:], ["GET /v2/t/image/manifests/1"])

    def test_damaged_store_is_pulled_again(self):
        d, packed = self.r.add([A, B])
        self.good()
        for name in self.files("layers/sha256"):
            os.unlink(f"{self.store}/layers/sha256/{name}")
        n = len(self.r.requests())
        self.good()  # from the store's blobs
        self.assertEqual(len(self.r.requests()), n)
        for name in self.files("layers/sha256"):
            os.unlink(f"{self.store}/layers/sha256/{name}")
        os.unlink(f"{self.store}/blobs/sha256/{sha(packed[1])[7:]}")
        self.good()
        self.assertGreater(len(self.r.requests()), n)

    def test_digest_and_tag(self):
        d, _ = self.r.add([A])
        base = f"{self.r.host}/t/image"
        self.good(f"{base}@{d['digest']}")
        self.good(f"{base}:whatever@{d['digest']}")
        self.refused("no t/image:2", "not here", ref=base + ":2", images=1)

    def test_kinds(self):
        for kind in (TAR, GZIP, ZSTD):
            self.r.add([A], media=kind, tag=kind[-4:].strip("+."))
            self.good(f"{self.r.host}/t/image:{kind[-4:].strip('+.')}")
        gz = pack(A, GZIP)
        m = {"schemaVersion": 2, "mediaType": DOCKER + "distribution.manifest.v2+json",
             "config": self.r.blob(doc(config([A])), DOCKER + "container.image.v1+json"),
             "layers": [self.r.blob(gz, DOCKER + "image.rootfs.diff.tar.gzip")]}
        d = self.r.manifest(m, "docker")
        self.good(f"{self.r.host}/t/image:docker")
        lists = {"schemaVersion": 2, "mediaType": DOCKER + "distribution.manifest.list.v2+json",
                 "manifests": [dict(d, platform=platform("linux", "arm64", variant="v8"),
                                    digest=sha(b"no")),
                               dict(d, platform=platform("linux", "amd64"))]}
        inner = self.r.manifest(lists, "list")
        self.good(f"{self.r.host}/t/image:list")
        self.r.manifest({"schemaVersion": 2, "mediaType": INDEX, "manifests": [inner]}, "nested")
        self.good(f"{self.r.host}/t/image:nested")
        self.r.manifest({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
            dict(d, platform=platform("linux", "arm64"))]}, "arm")
        self.refused("no image for linux/amd64", "linux/arm64", ref=f"{self.r.host}/t/image:arm",
                     images=6)

    def test_layers_shared_and_repeated(self):
        empty = tar([])
        self.r.add([A, empty, B, empty, A])
        self.assertEqual(len(self.good()["layers"]), 5)
        self.r.add([A, tar([("z", b"z")])], tag="2")
        n = len(self.r.requests("blobs"))
        self.good(f"{self.r.host}/t/image:2")
        self.assertEqual(len(self.r.requests("blobs")) - n, 2)  # config and one layer

    def test_eight_at_once_pull_once(self):
        self.r.add([A, B, tar([("d", b"D" * 100000)])])
        pulls = [subprocess.Popen([TOOL, self.ref, self.store], stdout=subprocess.DEVNULL,
                                  env=self.env) for _ in range(8)]
        self.assertEqual([p.wait(60) for p in pulls], [0] * 8)
        blobs = [r[0] for r in self.r.requests("blobs")]
        self.assertEqual(len(blobs), len(set(blobs)), blobs)
        self.assertEqual(len(blobs), 4)
        self.sound(1)


class Wrong(RegistryCase):
    """Bytes that are not what they are said to be never enter the store."""

    def setUp(self):
        super().setUp()
        self.desc, packed = self.r.add([A, B])
        self.big = packed[1]
        self.blob = "blobs/" + sha(self.big)

    def gone(self):
        self.assertNotIn(sha(self.big)[7:], self.files("blobs/sha256"))
        self.assertNotIn(sha(B)[7:] + ".erofs", self.files("layers/sha256"))

    def wrong_blob(self, data, *words):
        self.r.on(self.blob, lambda h: h.say(200, data))
        self.refused(*words)
        self.gone()

    def test_wrong_bytes(self):
        self.wrong_blob(bytes(len(self.big)), "does not match its digest")

    def test_one_bit(self):
        data = bytearray(self.big)
        data[len(data) // 2] ^= 4
        self.wrong_blob(bytes(data), "does not match its digest")

    def test_too_long(self):
        self.wrong_blob(self.big + b"x", "longer than the manifest says")

    def test_too_short(self):
        self.wrong_blob(self.big[:-1], "ends after")

    def test_empty(self):
        self.wrong_blob(b"", "ends after 0 of")

    def test_endless(self):
        self.r.on(self.blob, endless)
        self.refused("longer than the manifest says")
        self.gone()

    def test_lying_length(self):
        self.r.on(self.blob, lambda h: cut(h, self.big, 1000, claim=1 << 50))
        self.refused("longer than the manifest says")
        self.gone()

    def test_config(self):
        m = json.loads(self.r.manifests["1"][0])
        self.r.on(m["config"]["digest"], lambda h: h.say(200, b"{}" + b" " * (m["config"]["size"] - 2)))
        self.refused("does not match its digest")

    def test_manifest_by_digest(self):
        self.r.on("manifests/sha256", lambda h: h.say(200, self.r.manifests["1"][0] + b" ",
                                                     Content_Type=MANIFEST))
        self.refused("does not match its digest", ref=f"{self.r.host}/t/image@{self.desc['digest']}")

    def test_manifest_of_1_gib(self):
        self.r.on("manifests/1", lambda h: cut(h, b"[" * 100000, 100000, claim=1 << 30))
        self.refused("larger than the limit")
        self.r.hooks.clear()
        self.r.on("manifests/1", lambda h: endless(h, b" " * 65536, 1 << 30))
        self.refused("larger than the limit")

    def test_huge_config_claim(self):
        m = json.loads(self.r.manifests["1"][0])
        m["config"]["size"] = 5 << 20
        self.r.manifest(m, "1")
        self.refused("larger than the limit")

    def test_error_body_endless(self):
        def flood(h):
            h.send_response(404)
            h.send_header("Transfer-Encoding", "chunked")
            h.end_headers()
            try:
                for _ in range(1000):
                    h.wfile.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            except OSError:
                h.close_connection = True
            return True
        self.r.on("manifests/1", flood)
        self.refused("larger than 1024 KiB")

    def test_headers(self):
        self.r.on("manifests/1", lambda h: h.say(200, b"{}", **{f"X{i}": "y" * 5000 for i in range(90)}))
        self.refused("KiB of headers")

    def test_index_points_to_itself(self):
        """Its digest cannot be in it; a server that answers with the same index is caught by that."""
        index = doc({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
            {"mediaType": INDEX, "digest": sha(b"me"), "size": 200}]})
        self.r.on("manifests", lambda h: h.say(200, index, Content_Type=INDEX))
        self.refused("does not match its digest")
        self.assertEqual(len(self.r.requests("manifests")), 2)

    def test_deep_index(self):
        d = self.desc
        for _ in range(6):
            d = self.r.manifest({"schemaVersion": 2, "mediaType": INDEX, "manifests": [d]}, "1")
        self.refused("nested deeper than 4")

    def test_two_kinds_in_one(self):
        m = json.loads(self.r.manifests["1"][0])
        m["manifests"] = []
        self.r.manifest(m, "1")
        self.refused("ambiguous")
        self.r.manifests["1"] = (self.r.manifests[self.desc["digest"]][0], INDEX)
        self.refused("is referred to as")

    def test_bad_digests(self):
        for digest in ("sha256:..%2f..%2fetc", "sha256:" + "A" * 64, "sha512:" + "0" * 128, "md5:0", "../x"):
            m = json.loads(self.r.manifests[self.desc["digest"]][0])
            m["layers"][0]["digest"] = digest
            self.r.manifest(m, "1")
            self.refused("digest")
        self.assertEqual(self.r.requests("blobs"), [])

    def test_slow_body(self):
        def drip(h):
            return endless(h, b"x", delay=0.05)
        self.r.on(self.blob, drip)
        self.refused("sends nothing, or next to nothing", TOOL_IDLE_MS="300")
        self.gone()

    def test_silence(self):
        self.r.on("manifests", lambda h: time.sleep(120) or True)
        self.refused("sends nothing", TOOL_IDLE_MS="200", TOOL_ATTEMPTS="2")  # run_tool's limit is shorter


class Broken(RegistryCase):
    """Connections that break, and servers that are busy."""

    def setUp(self):
        super().setUp()
        _, packed = self.r.add([A, B])
        self.big = packed[1]
        self.blob = "blobs/" + sha(self.big)

    def ranges(self):
        return [r[1].get("Range") for r in self.r.requests(self.blob)]

    def test_resume(self):
        self.answer(self.blob, lambda h: cut(h, self.big, 100000))
        self.good()
        self.assertEqual(self.ranges(), [None, "bytes=100000-"])

    def test_resume_where_there_are_no_ranges(self):
        self.answer(self.blob, lambda h: cut(h, self.big, 100000), lambda h: h.say(200, self.big))
        self.good()

    def test_resume_elsewhere(self):
        """A 206 of another part is not taken; then from the start."""
        self.answer(self.blob, lambda h: cut(h, self.big, 100000),
                    lambda h: h.say(206, self.big[5:], Content_Range=f"bytes 5-{len(self.big) - 1}/9"))
        self.good()
        self.assertEqual(self.ranges(), [None, "bytes=100000-", None])

    def test_resume_refused(self):
        self.answer(self.blob, lambda h: cut(h, self.big, 100000), lambda h: h.say(416))
        self.good()
        self.assertEqual(self.ranges(), [None, "bytes=100000-", None])

    def test_resume_with_other_bytes(self):
        self.answer(self.blob, lambda h: cut(h, bytes(len(self.big)), 100000))
        self.refused("does not match its digest")

    def test_cut_everywhere(self):
        for i in (0, 1, 7, 15):
            self.r.hooks.clear()
            shutil.rmtree(self.store, ignore_errors=True)
            self.answer(self.blob, lambda h: cut(h, self.big, len(self.big) * i // 16))
            self.good()

    def test_busy_for_a_while(self):
        for status in (500, 503, 408):
            shutil.rmtree(self.store, ignore_errors=True)
            self.answer("manifests/1", lambda h: h.say(status))
            self.answer(self.blob, lambda h: h.say(status))
            self.good()

    def test_retry_after(self):
        self.answer("manifests/1", lambda h: h.say(429, Retry_After="1"))
        start = time.time()
        self.good()
        self.assertGreaterEqual(time.time() - start, 1)

    def test_retry_after_next_year(self):
        self.answer("manifests/1", lambda h: h.say(429, Retry_After="31536000"))
        self.refused("asks to come back in 31536000 s")

    def test_retry_after_garbage(self):
        for text in ("-5", "soon", "9" * 40, "Fri, 31 Dec 1999 23:59:59 GMT"):
            shutil.rmtree(self.store, ignore_errors=True)
            self.answer("manifests/1", lambda h: h.say(503, Retry_After=text))
            self.run_tool()
            self.sound()

    def test_down(self):
        self.r.on(self.blob, lambda h: h.say(503, b"<html>no</html>"))
        self.refused("answers 503")
        self.assertEqual(len(self.r.requests(self.blob)), 3)

    def test_nobody_there(self):
        self.refused("connect", ref="127.0.0.1:1/t/image")

    def test_not_http(self):
        self.r.on("manifests", lambda h: h.wfile.write(b"\0\1\2 what?\r\n\r\n") and False)
        self.run_tool()
        self.sound(0)

    def test_interrupted(self):
        self.r.on(self.blob, lambda h: endless(h, self.big[:2000], delay=0.2))
        p = subprocess.Popen([CLI, "pull", self.ref], env={**self.env, "SUPERMACHINE_HOME": self.store},
                             stderr=subprocess.PIPE)
        while not self.r.requests(self.blob):
            time.sleep(0.05)
        p.send_signal(signal.SIGINT)  # the body would take hours
        p.communicate(timeout=60)
        self.assertEqual(p.returncode, 130)
        self.sound(0)


class Redirects(RegistryCase):
    def setUp(self):
        super().setUp()
        _, packed = self.r.add([A])
        self.blob = "blobs/" + sha(packed[0])
        self.other = self.registry()
        self.other.blobs = self.r.blobs
        self.want_auth(self.r)
        self.env["SUPERMACHINE_REGISTRY_AUTH"] = f"{self.r.host}={USER}"

    @staticmethod
    def want_auth(r):
        def check(h):
            return h.headers.get("Authorization") != "Basic " + SECRET and \
                h.say(401, WWW_Authenticate='Basic realm="x"')
        r.on("/v2/", check)

    def to(self, url):
        self.r.hooks.insert(0, (re.compile(self.blob), lambda h: h.say(307, Location=url)))

    def no_secret(self, server):
        for name, headers, body in server.seen:
            self.assertNotIn("canary", str(headers) + str(body))
            self.assertNotIn("Authorization", headers, name)

    def test_other_host(self):
        self.to(f"http://{self.other.host}/v2/x/{self.blob}")
        self.good()
        self.assertEqual(len(self.other.requests()), 1)
        self.no_secret(self.other)

    def test_other_host_wants_a_password(self):
        self.to(f"http://{self.other.host}/v2/x/{self.blob}")
        self.want_auth(self.other)
        self.refused("denies access")
        self.no_secret(self.other)

    def test_back_home_keeps_credentials(self):
        self.to(f"/v2/y/{self.blob}?x=1")
        self.r.hooks[0] = (re.compile("t/image/" + self.blob), self.r.hooks[0][1])
        self.good()

    def test_loop(self):
        self.to(f"/v2/t/image/{self.blob}")
        self.refused("more than 10 redirects")

    def test_places_we_do_not_go(self):
        for url in ("file:///etc/passwd", "ftp://127.0.0.1/x", "http://169.254.169.254/latest", "gopher://x/",
                    "http://example.com/x", "http://user:pw@127.0.0.1/", "//[fe80::1]/x", "http://", "ldap:x",
                    "http://0251.0376.0251.0376/", "http://[::ffff:169.254.169.254]/", "unix:/run/x"):
            self.r.hooks = self.r.hooks[-1:]
            self.to(url)
            self.refused("refused" if "169.254" in url or "0251" in url or "fe80" in url or
                         "example.com" in url else "")
        self.r.hooks = self.r.hooks[-1:]
        self.to(None)
        self.refused("redirects to nowhere")


class Auth(RegistryCase):
    def setUp(self):
        super().setUp()
        self.r.add([A])
        self.tokens = self.registry()
        self.token = "tok.en-1"
        self.r.on("/v2/", lambda h: h.headers.get("Authorization") != "Bearer " + self.token and
                  h.say(401, WWW_Authenticate=self.challenge()))
        self.tokens.on("GET|POST", lambda h: h.say(200, doc({"token": self.token})))
        self.realm = f"http://{self.tokens.host}/token"

    def challenge(self):
        return f'Bearer realm="{self.realm}",service="a b",scope="repository:other:push"'

    def test_anonymous_token(self):
        self.good()
        name, headers, _ = self.tokens.seen[0]
        self.assertEqual(name, "GET /token?service=a%20b&scope=repository%3At%2Fimage%3Apull")
        self.assertNotIn("Authorization", headers)
        self.assertEqual(len(self.tokens.seen), 1)

    def test_password_for_token(self):
        self.env["SUPERMACHINE_REGISTRY_AUTH"] = f"{self.r.host}={USER}"
        self.good()
        self.assertEqual(self.tokens.seen[0][1]["Authorization"], "Basic " + SECRET)
        for _, headers, _ in self.r.seen:  # the registry itself sees tokens only
            self.assertNotIn(SECRET, str(headers))

    def test_password_of_another_host(self):
        self.env["SUPERMACHINE_REGISTRY_AUTH"] = f"{self.tokens.host}={USER}"
        self.good()
        self.assertNotIn(SECRET, str(self.tokens.seen) + str(self.r.seen))

    def test_strange_token_server(self):
        """Another owner's: it gets no password."""
        self.realm = f"http://localhost:{self.tokens.port}/token"
        self.tokens.hooks.clear()
        self.tokens.on("GET", lambda h: h.say(401))
        self.env["SUPERMACHINE_REGISTRY_AUTH"] = f"{self.r.host}={USER}"
        self.refused("credentials were not sent there")
        self.assertNotIn(SECRET, str(self.tokens.seen))

    def test_docker_config(self):
        os.mkdir(self.dir + "/.docker")
        table = [({"auths": {self.r.host: {"auth": SECRET}}}, "Basic " + SECRET),
                 ({"auths": {f"http://{self.r.host}/v1/": {"username": "canary-user",
                                                            "password": "canary-pass"}}}, "Basic " + SECRET),
                 ({"auths": {"elsewhere": {"auth": SECRET}}}, None),
                 ({"auths": {self.r.host: {}}}, None),
                 ({}, None)]
        for value, want in table:
            with open(self.dir + "/.docker/config.json", "wb") as f:
                f.write(doc(value))
            shutil.rmtree(self.store, ignore_errors=True)
            self.tokens.seen.clear()
            self.good()
            self.assertEqual(self.tokens.seen[0][1].get("Authorization"), want)

    def test_docker_config_wrong(self):
        os.mkdir(self.dir + "/.docker")
        for value in (b"{", b"[]", b'{"auths":[]}', b'{"credHelpers":7}', b'{"credsStore":"../x"}',
                      doc({"auths": {self.r.host: {"auth": "!"}}}), doc({"auths": {self.r.host: {"auth": "YQ=="}}})):
            with open(self.dir + "/.docker/config.json", "wb") as f:
                f.write(value)
            self.refused("config.json")

    def helper(self, text):
        os.makedirs(self.dir + "/.docker", exist_ok=True)
        with open(self.dir + "/.docker/config.json", "wb") as f:
            f.write(doc({"credHelpers": {self.r.host: "test"}}))
        path = self.dir + "/docker-credential-test"
        with open(path, "w") as f:
            f.write("#!/bin/sh\n" + text)
        os.chmod(path, 0o755)
        self.env["PATH"] = self.dir + ":" + os.environ["PATH"]

    def test_helper(self):
        self.helper(f'[ "$(cat)" = "{self.r.host}" ] && [ "$1" = get ] && echo '
                    '\'{"ServerURL":"x","Username":"canary-user","Secret":"canary-pass"}\'\n')
        self.good()
        self.assertEqual(self.tokens.seen[0][1]["Authorization"], "Basic " + SECRET)

    def test_helper_with_identity_token(self):
        self.helper('echo \'{"Username":"<token>","Secret":"canary-pass"}\'\n')
        self.good()
        name, headers, body = self.tokens.seen[0]
        self.assertEqual(name, "POST /token")
        self.assertIn(b"grant_type=refresh_token", body)
        self.assertIn(b"refresh_token=canary-pass", body)

    def test_helper_wrong(self):
        for text, word in (("exit 3", "exit code 3"), ("echo junk", "not valid JSON"), ("kill -9 $$", "signal 9"),
                           ("yes", "writes more than"), ("echo '{}'; sleep 60", "does not end")):
            self.helper(text + "\n")
            if "{}" in text:
                self.helper("exec 1>&-; sleep 60 & sleep 60\n")
            self.refused("docker-credential-test", word)
        self.helper("echo credentials not found in native keychain; exit 1\n")
        self.good()

    def test_no_such_helper(self):
        self.helper("")
        os.unlink(self.dir + "/docker-credential-test")
        self.refused("cannot run the credential helper docker-credential-test")

    def test_loop(self):
        """A token that is never good enough."""
        self.token = "refused"
        self.r.hooks.clear()
        self.r.on("/v2/", lambda h: h.say(401, WWW_Authenticate=self.challenge()))
        self.refused("denies access")
        self.assertEqual(len(self.r.seen), 2)
        self.assertEqual(len(self.tokens.seen), 1)

    def test_expired_on_the_way(self):
        expired = []

        def expire(h):
            if not expired:
                expired.append(1)
                self.token = "tok.en-2"
            return False
        self.r.hooks.insert(0, (re.compile("blobs"), expire))
        self.good()
        self.assertEqual(len(self.tokens.seen), 2)

    def test_bad_tokens(self):
        for body in (b"", b"{}", b"[]", b'{"token":7}', b'{"token":"a\\r\\nX: y"}', b'{"token":"a b"}',
                     b'{"token":"' + b"x" * 70000 + b'"}', b"x" * (2 << 20)):
            self.tokens.hooks.clear()
            self.tokens.on("GET", lambda h: h.say(200, body))
            self.refused("")
            self.assertEqual(self.r.requests("blobs"), [])

    def test_bad_challenges(self):
        for text in ("", "Digest x=y", 'Bearer realm="', "Bearer realm=ftp://x/", "Bearer", "Negotiate", "\"",
                     'Bearer realm="http://a:b@127.0.0.1/"', "Basic " + "x" * 9000, 'Bearer realm="http://example.com/"'):
            self.r.hooks.clear()
            self.r.on("/v2/", lambda h: h.say(401, WWW_Authenticate=text))
            self.refused("")

    def test_realm_inside(self):
        """A registry on the internet (as far as names tell: behind a proxy) names a realm in here."""
        proxy = self.registry()
        for realm in (f"http://{self.tokens.host}/token", f"http://localhost:{self.tokens.port}/", "http://10.1.2.3/",
                      "http://169.254.169.254/latest/meta-data", "http://[::1]:80/", "http://192.168.0.1/",
                      "http://2130706433/", "http://[fd00::1]/"):
            proxy.hooks.clear()
            proxy.on("GET", lambda h: h.say(401, WWW_Authenticate=f'Bearer realm="{realm}"'))
            hosts = "reg.example.com,10.1.2.3,169.254.169.254,192.168.0.1,2130706433,fd00::1"
            self.refused("refused", ref="reg.example.com/t/image", http_proxy="http://" + proxy.host,
                         https_proxy="http://127.0.0.1:1", TOOL_INSECURE=hosts)
        self.assertEqual(self.tokens.seen, [])

    def test_basic_needs_a_password(self):
        self.r.hooks.clear()
        self.r.on("/v2/", lambda h: h.say(401, WWW_Authenticate='Basic realm="x"'))
        self.refused("docker login", "SUPERMACHINE_REGISTRY_AUTH")
        self.refused("denies access", SUPERMACHINE_REGISTRY_AUTH=f"{self.r.host}={USER}")

    def test_plain_http_only_here(self):
        self.refused("", ref="localhost.example.com:80/t/image", http_proxy="http://" + self.r.host)
        self.assertEqual(self.r.seen, [])


if __name__ == "__main__":
    run_tests()
