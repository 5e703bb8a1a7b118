# SPDX-License-Identifier: Apache-2.0
"""One large Debian image with what big_programs.py runs, made by mmdebstrap and kept in
out/cache/images/big-KEY: oci/ (tag big, one plain layer of about 1.6 GB) and rootfs/ (the same, for chroot)."""
import hashlib
import json
import os
import sys

from image_cache import APT_SOURCE, cached, call

HERE = os.path.dirname(os.path.abspath(__file__))
OCI = "application/vnd.oci.image."
PACKAGES = ["python3", "libpython3.11-testsuite", "nodejs", "golang-go", "openjdk-17-jdk-headless", "postgresql-15",
            "gcc", "libc6-dev", "stress-ng", "openssl", "ca-certificates", "procps", "iproute2"]
TOOLS = ["mmdebstrap", "chroot", "tar"]
# The Go program is compiled here: its compiler in a guest is not what is tested. hello is apt-get's to install.
HOOKS = ['cp /etc/resolv.conf "$1/etc/resolv.conf"',
         'chroot "$1" sh -c "cd /opt && apt-get download hello"',
         f'cp {HERE}/programs/work.go "$1/opt/"',
         'chroot "$1" env HOME=/root go build -o /opt/work /opt/work.go',
         'rm -rf "$1/root/.cache" "$1/etc/resolv.conf"']


def put_blob(layout, value, media):
    data = json.dumps(value).encode()
    name = hashlib.sha256(data).hexdigest()
    with open(f"{layout}/blobs/sha256/{name}", "wb") as f:
        f.write(data)
    return {"mediaType": OCI + media, "digest": "sha256:" + name, "size": len(data)}


def make_layout(layout, layer):
    """An OCI layout around a layer that is too large to be read as a whole."""
    digest = hashlib.sha256()
    with open(layer, "rb") as f:
        while data := f.read(1 << 20):
            digest.update(data)
    name, size = digest.hexdigest(), os.path.getsize(layer)
    os.makedirs(f"{layout}/blobs/sha256")
    os.rename(layer, f"{layout}/blobs/sha256/{name}")
    conf = put_blob(layout, {"os": "linux", "architecture": "amd64", "config": {},
                             "rootfs": {"type": "layers", "diff_ids": ["sha256:" + name]}}, "config.v1+json")
    manifest = put_blob(layout, {"schemaVersion": 2, "config": conf,
                                 "layers": [{"mediaType": OCI + "layer.v1.tar", "digest": "sha256:" + name,
                                             "size": size}]}, "manifest.v1+json")
    manifest["annotations"] = {"org.opencontainers.image.ref.name": "big"}
    for file, value in (("oci-layout", {"imageLayoutVersion": "1.0.0"}),
                        ("index.json", {"schemaVersion": 2, "manifests": [manifest]})):
        with open(f"{layout}/{file}", "w") as f:
            json.dump(value, f)


def build(work):
    hooks = [f"--customize-hook={h}" for h in HOOKS]
    call("mmdebstrap", "--variant=apt", f"--include={','.join(PACKAGES)}", *hooks, "bookworm", f"{work}/layer.tar",
         APT_SOURCE)
    os.mkdir(f"{work}/rootfs")
    call("tar", "-x", "--numeric-owner", "-p", "-C", f"{work}/rootfs", "-f", f"{work}/layer.tar")
    make_layout(f"{work}/oci", f"{work}/layer.tar")


def image(source_dir):
    """The folder with the image, built if need be. Raises Skip when this host cannot."""
    return cached(source_dir, "big-", [__file__, f"{HERE}/programs/work.go"], TOOLS, build)


if __name__ == "__main__":
    print(image(sys.argv[1]))
