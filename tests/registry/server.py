# SPDX-License-Identifier: Apache-2.0
"""A registry for tests, right unless told otherwise: what it serves, and every request it saw."""
import http.server
import json
import re
import socketserver
import threading
import time

from images import *


class Quiet(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass  # clients that hang up are what we test


class Registry:
    """hooks: list of (regex of "METHOD path", function(handler) -> True when it answered)."""

    def __init__(self, host="127.0.0.1", context=None):
        registry = self
        self.blobs, self.manifests, self.hooks, self.seen = {}, {}, [], []
        self.lock = threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def handle_any(self):
                registry.handle(self)
            do_GET = do_POST = do_HEAD = do_CONNECT = handle_any

            def say(self, status, body=b"", **headers):
                self.send_response(status)
                headers.setdefault("Content-Length", str(len(body)))
                for k, v in headers.items():
                    if v is not None:
                        self.send_header(k.replace("_", "-"), v)
                self.end_headers()
                self.wfile.write(body)
                return True

        self.server = Quiet((host, 0), Handler)
        self.port = self.server.server_address[1]
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.host = f"{host}:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def add(self, layers, media=GZIP, tag="1", conf=None, **more):
        """An image; returns (manifest descriptor, blobs of layers)."""
        packed = [pack(x, media) for x in layers]
        m = {"schemaVersion": 2, "mediaType": MANIFEST,
             "config": self.blob(doc(conf if conf is not None else config(layers)), CONFIG),
             "layers": [self.blob(x, media) for x in packed]}
        m.update(more)
        return self.manifest(m, tag), packed

    def blob(self, data, media):
        self.blobs[sha(data)] = data
        return {"mediaType": media, "digest": sha(data), "size": len(data)}

    def manifest(self, value, tag=None, media=None):
        data = doc(value)
        media = media or json.loads(data).get("mediaType", MANIFEST)
        self.manifests[sha(data)] = (data, media)
        if tag:
            self.manifests[tag] = (data, media)
        return {"mediaType": media, "digest": sha(data), "size": len(data)}

    def on(self, pattern, answer):
        self.hooks.append((re.compile(pattern), answer))

    def requests(self, pattern=""):
        with self.lock:
            return [r for r in self.seen if re.search(pattern, r[0])]

    def handle(self, h):
        name = f"{h.command} {h.path}"
        length = int(h.headers.get("Content-Length") or 0)
        h.body = h.rfile.read(length) if length else b""
        with self.lock:
            self.seen.append((name, dict(h.headers), h.body))
        for pattern, answer in self.hooks:
            if pattern.search(name) and answer(h):
                return
        self.serve(h)

    def serve(self, h):
        m = re.fullmatch(r"/v2/(.+)/(manifests|blobs)/([^/]+)", h.path.partition("?")[0])
        if m and m[2] == "manifests" and m[3] in self.manifests:
            data, media = self.manifests[m[3]]
            return h.say(200, data, Content_Type=media, Docker_Content_Digest=sha(data))
        if m and m[2] == "blobs" and m[3] in self.blobs:
            return self.send_blob(h, self.blobs[m[3]])
        return h.say(404, doc({"errors": [{"code": "UNKNOWN", "message": "not here"}]}))

    @staticmethod
    def send_blob(h, data):
        r = re.fullmatch(r"bytes=(\d+)-", h.headers.get("Range") or "")
        if r:
            start = int(r[1])
            return h.say(206, data[start:],
                         Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}")
        return h.say(200, data)


def cut(h, data, length, claim=None):
    """Claim one length, send another, hang up."""
    h.send_response(200)
    h.send_header("Content-Length", str(claim if claim is not None else len(data)))
    h.end_headers()
    h.wfile.write(data[:length])
    h.wfile.flush()
    h.close_connection = True
    h.connection.shutdown(2)
    return True


def endless(h, block=b"x" * 65536, limit=4 << 30, delay=0):
    h.send_response(200)
    h.send_header("Transfer-Encoding", "chunked")
    h.end_headers()
    sent = 0
    try:
        while sent < limit:
            h.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))
            h.wfile.flush()
            sent += len(block)
            time.sleep(delay)
    except OSError:
        pass
    h.sent = sent
    h.close_connection = True
    return True
