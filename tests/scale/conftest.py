"""A PostgreSQL server of the tests' own, on a free port of the loopback, gone at their end."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from bizcode import Business, ManualClock

sys.path.insert(0, str(Path(__file__).parent))
import spark_cluster

START = "2024-01-01T00:00:00+00:00"


class Postgres:
    """The server's process. `url(schema)` leads to a schema of it."""

    def __init__(self, binaries: Path, directory: Path, account: str | None) -> None:
        self.binaries, self.directory, self.account = binaries, directory, account
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    def _command(self, name: str, *more: str) -> list[str]:
        return [str(self.binaries / name), "-D", str(self.directory), *more]

    def create(self) -> None:
        subprocess.run(
            self._command("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"),
            user=self.account, cwd="/", check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def start(self, *settings: str) -> None:
        options = ("-p", str(self.port), "-h", "127.0.0.1", "-c", "unix_socket_directories=", *settings)
        self.process = subprocess.Popen(
            self._command("postgres", *options),
            user=self.account, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.ready()

    def ready(self) -> None:
        import psycopg

        until = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < until, "the server doesn't start"
                time.sleep(0.05)

    def stop(self, how: int = signal.SIGINT) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(30)
            self.process = None

    def url(self, schema: str | None = None, database: str = "postgres") -> str:
        options = "" if schema is None else f"?schema={schema}"
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}{options}"


def binaries() -> Path | None:
    """Where `initdb` lies, of the newest PostgreSQL there is."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda path: int(path.split("/")[4]))
    which = found[-1] if found else shutil.which("initdb")
    return Path(which).parent if which else None


def account() -> str | None:
    """Whom the server runs as: it refuses to run as root."""
    if os.getuid() != 0:
        return None
    return next(user.pw_name for user in pwd.getpwall() if user.pw_name in ("postgres", "nobody"))


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    pytest.importorskip("psycopg")
    where = binaries()
    if where is None:
        if os.environ.get("BIZCODE_SCALE"):
            pytest.fail("there is no PostgreSQL: apt-get install postgresql")
        pytest.skip("there is no PostgreSQL on this machine")
    directory = Path(tempfile.mkdtemp(prefix="bizcode-postgres-"))
    user = account()
    if user is not None:
        shutil.chown(directory, user)
    postgres = Postgres(where, directory, user)
    try:
        postgres.create()
        postgres.start("-c", "fsync=off", "-c", "max_connections=200")
        yield postgres
    finally:
        postgres.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def url(server: Postgres) -> str:
    """An empty schema."""
    return server.url(f"t{uuid.uuid4().hex[:12]}")


@pytest.fixture
def biz(url, clock, tmp_path):
    """A business in PostgreSQL; its files in a directory as other machines would see it."""
    with Business(url, clock=clock, worker=False, segments=f"file://{tmp_path}/shared") as business:
        yield business


@pytest.fixture
def shop(url, tmp_path):
    clock = ManualClock(START)
    with Business(url, clock=clock, worker=False, segments=f"file://{tmp_path}/shared") as business:
        yield business, clock


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """The URL of a Spark master with two workers."""
    if not spark_cluster.installed():
        if os.environ.get("BIZCODE_SCALE"):
            pytest.fail(
                "there is no Spark: pip install 'bizcode[spark]', apt-get install openjdk-17-jre-headless"
            )
        pytest.skip("there is no Spark on this machine")
    with spark_cluster.standalone() as (url, env), pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        yield url


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """A server of S3's protocol; its URL."""
    server = pytest.importorskip("moto.server")
    running = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The URL of an empty bucket; the cache is in the test's directory."""
    import boto3

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("BIZCODE_CACHE", str(tmp_path / "cache"))
    name = f"acme-{os.urandom(4).hex()}"
    boto3.client("s3", endpoint_url=f"http://{s3}", region_name="us-east-1").create_bucket(Bucket=name)
    return f"s3://{name}/events?endpoint_override={s3}&scheme=http&region=us-east-1"
