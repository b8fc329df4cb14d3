"""What docs/serve.md says works as it is written there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import httpx
import orjson
import pytest
import segment.analytics
from posthog import Posthog

from bizcode.serve import Keys, background

PAGE = (Path(__file__).parents[2] / "docs" / "serve.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_every_python_block_runs(shop):
    found = blocks("python")
    assert len(found) >= 2
    with background(shop) as url:
        scope = {
            "biz": shop,
            "TOKEN": "x" * 20,
            "write_key": Keys(shop.store).create("write"),
            "Posthog": Posthog,
            "segment": segment,
        }
        for block in found:
            exec(compile(block.replace("http://127.0.0.1:8484", url), "serve.md", "exec"), scope)


def test_every_request_answers(shop):
    shop.track.View(user_id="u1", plan="pro")
    shop.track.Purchase(user_id="u1", plan="pro", amount=20)
    commands = [block for block in blocks("bash") if "curl" in block]
    lines = "".join(commands).replace("\\\n", " ").splitlines()
    assert len(lines) >= 3
    with background(shop) as url:
        for line in lines:
            words = shlex.split(line.replace("http://127.0.0.1:8484", url))
            if shutil.which("curl"):
                answer = orjson.loads(
                    subprocess.run([words[0], "-s", *words[1:]], capture_output=True, check=True).stdout
                )
            else:
                body = words[words.index("-d") + 1] if "-d" in words else None
                headers = {"content-type": "application/json"} if body else {}
                answer = httpx.request(
                    "POST" if body else "GET", words[-1], content=body, headers=headers
                ).json()
            assert "result" in answer, (line, answer)


@pytest.mark.parametrize("image", re.findall(r"\((images/[^)]*)\)", PAGE))
def test_every_picture_is_there(image):
    assert (Path(__file__).parents[2] / "docs" / image).stat().st_size < 200_000
