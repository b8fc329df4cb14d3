"""A standalone Spark of the tests' own: a master and two workers on free ports of the loopback, gone at their end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEFAULTS = """
spark.driver.host 127.0.0.1
spark.driver.bindAddress 127.0.0.1
spark.executor.memory 512m
spark.sql.shuffle.partitions 2
spark.ui.enabled false
spark.driver.extraJavaOptions -XX:TieredStopAtLevel=1
spark.executor.extraJavaOptions -XX:TieredStopAtLevel=1
"""
"""Statements are many and small here: what they cost is being compiled."""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def installed() -> bool:
    """Whether there are pyspark and a Java."""
    import importlib.util

    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java") or (home and (Path(home) / "bin" / "java").exists())
    return bool(java) and importlib.util.find_spec("pyspark") is not None


def environment(directory: Path) -> dict[str, str]:
    """What a Spark that keeps to the loopback and to a directory is started with, and its keys to a bucket."""
    (directory / "spark-defaults.conf").write_text(DEFAULTS)
    return {
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_CONF_DIR": str(directory),
        "SPARK_LOCAL_DIRS": str(directory / "local"),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


def start(name: str, *arguments: str, env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """A class of Spark's as a process."""
    import pyspark

    command = Path(pyspark.__file__).parent / "bin" / "spark-class"
    return subprocess.Popen(
        [str(command), name, *arguments],
        env={**os.environ, **env}, stdout=log.open("wb"), stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(20)


@contextmanager
def standalone(workers: int = 2) -> Iterator[tuple[str, dict[str, str]]]:
    """The URL of a master whose workers are there, and the environment for a driver."""
    directory = Path(tempfile.mkdtemp(prefix="bizcode-spark-"))
    env = environment(directory)
    port, page = free_port(), free_port()
    url = f"spark://127.0.0.1:{port}"
    running = []
    try:
        running.append(
            start(
                "org.apache.spark.deploy.master.Master",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                "--webui-port",
                str(page),
                env=env,
                log=directory / "master.log",
            )
        )
        until = time.monotonic() + 90
        for n in range(workers):
            while not _answers(port):
                assert time.monotonic() < until, (directory / "master.log").read_text()
                time.sleep(0.1)
            running.append(
                start(
                    "org.apache.spark.deploy.worker.Worker",
                    "--host",
                    "127.0.0.1",
                    "--cores",
                    "1",
                    "--memory",
                    "1g",
                    "--webui-port",
                    str(free_port()),
                    "--work-dir",
                    str(directory / f"worker{n}"),
                    url,
                    env=env,
                    log=directory / f"worker{n}.log",
                )
            )
        while _workers(page) < workers:
            assert time.monotonic() < until, (directory / "worker0.log").read_text()
            time.sleep(0.1)
        yield url, env
    finally:
        for process in reversed(running):
            stop(process)
        shutil.rmtree(directory, ignore_errors=True)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _workers(page: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{page}/json/", timeout=5) as answer:
            return json.load(answer)["aliveworkers"]
    except (urllib.error.URLError, OSError):
        return 0
