"""Two machines and a third with the servers, on one: network namespaces joined by cables that can be pulled.

The hub has PostgreSQL and an S3 server at 10.203.0.1; the machines a and b reach it by a cable each, and nothing else is
reachable from there. Where namespaces can't be made, the machines are directories on the loopback, and a cable is a relay.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

HUB = "10.203.0.1"


def _ip(*words: str, check: bool = True) -> bool:
    found = subprocess.run(["ip", *words], capture_output=True, check=False, timeout=20)
    assert found.returncode == 0 or not check, found.stderr.decode()
    return found.returncode == 0


class Namespaces:
    """Machines that share nothing but the cables to the hub."""

    how = "network namespaces"

    def __init__(self, stack: ExitStack) -> None:
        self._tag = f"bz{os.getpid() % 100_000:x}"
        for name in ("hub", "a", "b"):
            _ip("netns", "add", f"{self._tag}{name}")
            stack.callback(_ip, "netns", "del", f"{self._tag}{name}", check=False)
            self._inside(name, "link", "set", "lo", "up")
        self._inside("hub", "addr", "add", f"{HUB}/32", "dev", "lo")
        for number, name in enumerate("ab", 1):
            near, far = f"{self._tag}{name}0", f"{self._tag}{name}1"
            _ip("link", "add", near, "netns", f"{self._tag}hub", "type", "veth", "peer", "name", far, "netns",
                f"{self._tag}{name}")  # fmt: skip
            self._inside("hub", "addr", "add", f"10.203.{number}.1/24", "dev", near)
            self._inside("hub", "link", "set", near, "up")
            self._inside(name, "addr", "add", f"10.203.{number}.2/24", "dev", far)
            self._inside(name, "link", "set", far, "up")
            self._inside(name, "route", "add", "default", "via", f"10.203.{number}.1")

    def _inside(self, machine: str, *words: str) -> None:
        _ip("-n", f"{self._tag}{machine}", *words)

    def command(self, machine: str, *words: str) -> list[str]:
        return ["ip", "netns", "exec", f"{self._tag}{machine}", *words]

    def hosts(self, machine: str) -> tuple[str, str]:
        """Where a machine finds the servers, and where they listen."""
        return HUB, "*"

    def port(self, machine: str, port: int) -> int:
        return port

    def pull(self, machine: str) -> None:
        self._inside("hub", "link", "set", f"{self._tag}{machine}0", "down")

    def plug(self, machine: str) -> None:
        self._inside("hub", "link", "set", f"{self._tag}{machine}0", "up")


class Directories:
    """Machines that share the loopback; each reaches the database by a relay of its own."""

    how = "directories"

    def __init__(self, stack: ExitStack) -> None:
        self._cables: dict[str, Cable] = {}
        self._stack = stack

    def command(self, machine: str, *words: str) -> list[str]:
        return list(words)

    def hosts(self, machine: str) -> tuple[str, str]:
        return "127.0.0.1", "127.0.0.1"

    def port(self, machine: str, port: int) -> int:
        cable = self._cables.setdefault(machine, Cable(port))
        self._stack.callback(cable.close)
        return cable.port

    def pull(self, machine: str) -> None:
        self._cables[machine].pulled.set()

    def plug(self, machine: str) -> None:
        self._cables[machine].pulled.clear()


class Cable:
    """Passes bytes on, or holds them: what is sent over a pulled one gets no answer."""

    def __init__(self, port: int) -> None:
        self.pulled = threading.Event()
        self._target = port
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                threading.Thread(target=self._pass, args=(near,), daemon=True).start()

    def _pass(self, near: socket.socket) -> None:
        since = None
        with contextlib.suppress(OSError), near, socket.create_connection(("127.0.0.1", self._target)) as far:
            while not self._closed:
                if self.pulled.is_set():
                    # As the system does: after some seconds without a word the connection is given up.
                    since = since or time.monotonic()
                    if time.monotonic() - since > 10:
                        return
                    time.sleep(0.05)
                    continue
                since = None
                for one in select.select([near, far], [], [], 0.05)[0]:
                    data = one.recv(65_536)
                    if not data:
                        return
                    (far if one is near else near).sendall(data)

    def close(self) -> None:
        self._closed = True
        self._listener.close()


@contextmanager
def machines() -> Iterator[Namespaces | Directories]:
    """Machines "hub", "a" and "b"; `how` says what they are."""
    with ExitStack() as stack:
        able = False
        if shutil.which("ip") is not None and os.getuid() == 0:
            probe = f"bzprobe{os.getpid() % 100_000:x}"
            able = _ip("netns", "add", probe, check=False) and _ip(
                "-n", probe, "link", "add", "x0", "type", "veth", "peer", "name", "x1", check=False
            )
            _ip("netns", "del", probe, check=False)
        yield (Namespaces if able else Directories)(stack)


@contextmanager
def servers(
    there: Namespaces | Directories, binaries: Path, account: str | None
) -> Iterator[tuple[int, int]]:
    """PostgreSQL and an S3 server on the hub; their ports."""
    directory = Path(tempfile.mkdtemp(prefix="bizcode-hub-"))
    running: list[subprocess.Popen[bytes]] = []
    ports = [_free(), _free()]
    listen = there.hosts("hub")[1]
    try:
        if account is not None:
            shutil.chown(directory, account)
        data = directory / "data"
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"],
            user=account, cwd="/", check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 10.203.0.0/16 trust\n")
        change = []
        if account is not None:
            who = pwd.getpwnam(account)
            change = ["setpriv", f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}", "--clear-groups"]
        running.append(
            subprocess.Popen(
                there.command(
                    "hub",
                    *change,
                    str(binaries / "postgres"),
                    "-D",
                    str(data),
                    "-p",
                    str(ports[0]),
                    "-h",
                    listen,
                    "-c",
                    "unix_socket_directories=",
                    "-c",
                    "fsync=off",
                ),
                cwd="/",
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        running.append(
            subprocess.Popen(
                there.command(
                    "hub",
                    sys.executable,
                    "-c",
                    "import sys; from moto.server import main; main(sys.argv[1:])",
                    "-H",
                    "0.0.0.0" if listen == "*" else listen,
                    "-p",
                    str(ports[1]),
                ),
                cwd="/",
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        yield ports[0], ports[1]
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)
        shutil.rmtree(directory, ignore_errors=True)


def _free() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
