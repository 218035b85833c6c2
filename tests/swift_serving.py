"""OpenStack's Swift: a store on disk that speaks S3 and has no conditional writes."""

from __future__ import annotations

import http.client
import os
import pwd
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.debian import need

PACKAGES = ("swift-proxy", "swift-account", "swift-container", "swift-object", "memcached")
KINDS = ("container", "account", "object")
CONFIGURATION = """
[swift-hash]
swift_hash_path_suffix = t
swift_hash_path_prefix = t
[storage-policy:0]
name = gold
default = yes
"""
PROXY = """
[pipeline:main]
pipeline = catch_errors proxy-logging cache listing_formats s3api tempauth copy slo dlo \
proxy-logging proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:proxy-logging]
use = egg:swift#proxy_logging
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""


MAKE_RINGS = """
import sys
from swift.common.ring import RingBuilder
for argument in sys.argv[1:]:
    path, _, port = argument.partition("=")
    builder = RingBuilder(4, 1, 1)
    at = {"ip": "127.0.0.1", "port": int(port), "device": "d1"}
    also = {"replication_ip": at["ip"], "replication_port": at["port"], "meta": ""}
    builder.add_dev({"region": 1, "zone": 1, "weight": 1, **at, **also})
    builder.rebalance()
    builder.get_ring().save(path)
"""


@contextmanager
def swift_serving(folder: Path) -> Generator[str]:
    """A Swift with the bucket `files`, until the end of the block; needs root.

    Its address; the key is `test:tester`, the secret `testing`.
    """
    if os.geteuid() != 0:
        pytest.skip("Swift wants to be started by root: run this test as root")
    for program in ("swift-proxy-server", *(f"swift-{kind}-server" for kind in KINDS)):
        need(program, f"swift-{program.split('-')[1]}")
    need("memcached", "memcached")
    ports = free_ports(5)
    write(folder, ports)
    commands = [["memcached", "-u", "nobody", "-l", "127.0.0.1", "-p", str(ports[4])]]
    commands += [[f"swift-{kind}-server", f"{folder}/{kind}.conf"] for kind in KINDS]
    commands += [["swift-proxy-server", f"{folder}/proxy.conf"]]
    started: list[subprocess.Popen[bytes]] = []
    with (folder / "log").open("wb") as log:
        try:
            for command in commands:
                started.append(
                    subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
                )
            endpoint = f"http://127.0.0.1:{ports[0]}"
            wait_for(endpoint, folder / "log")
            yield endpoint
        finally:
            for process in started:
                process.terminate()
            for process in started:
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, 9)
                    process.wait(10)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def write(folder: Path, ports: list[int]) -> None:
    """The configuration, and the rings that say where what is kept."""
    (folder / "node" / "d1").mkdir(parents=True)
    (folder / "swift.conf").write_text(CONFIGURATION)
    for kind, port in zip(KINDS, ports[1:4], strict=True):
        (folder / f"{kind}.conf").write_text(
            common(folder, port)
            + f"[pipeline:main]\npipeline = {kind}-server\n"
            + f"[app:{kind}-server]\nuse = egg:swift#{kind}\n"
        )
    (folder / "proxy.conf").write_text(common(folder, ports[0]) + PROXY.format(memcached=ports[4]))
    # Debian's Python, which has Swift's modules; its own program would be started nine times.
    rings = [
        f"{folder}/{kind}.ring.gz={port}" for kind, port in zip(KINDS, ports[1:4], strict=True)
    ]
    command = ["/usr/bin/python3", "-c", MAKE_RINGS, *rings]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    user = pwd.getpwnam("swift")
    for parent in folder.parents:  # which belong to root alone, as pytest makes them
        if parent.owner() == "root" and parent.stat().st_mode & 0o777 == 0o700:
            parent.chmod(0o711)
    for path in (folder, *folder.rglob("*")):
        shutil.chown(path, user.pw_uid, user.pw_gid)


def common(folder: Path, port: int) -> str:
    """What all of its servers are told."""
    return (
        f"[DEFAULT]\ndevices = {folder}/node\nmount_check = false\nbind_ip = 127.0.0.1\n"
        f"bind_port = {port}\nworkers = 0\nuser = swift\nswift_dir = {folder}\n"
        "log_address = /dev/null\nfallocate_reserve = 0\n"
    )


def wait_for(endpoint: str, log: Path) -> None:
    """Return when all of its servers answer, and the bucket is there."""
    deadline = time.monotonic() + 60
    while True:
        try:
            make_bucket(endpoint)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            assert time.monotonic() < deadline, log.read_text()[-4000:]
            time.sleep(0.1)
        else:
            return


def make_bucket(endpoint: str) -> None:
    """The bucket, by Swift's own protocol, which needs no signature."""
    asked = urllib.request.Request(
        f"{endpoint}/auth/v1.0",
        headers={"X-Auth-User": "test:tester", "X-Auth-Key": "testing"},
    )
    with urllib.request.urlopen(asked, timeout=20) as answer:
        headers = {"X-Auth-Token": str(answer.headers["X-Auth-Token"])}
        url = str(answer.headers["X-Storage-Url"])
    made = urllib.request.Request(f"{url}/files", method="PUT", headers=headers)
    urllib.request.urlopen(made, timeout=20).close()
