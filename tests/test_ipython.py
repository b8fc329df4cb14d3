"""`$` in a real IPython."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"

SESSION = """%load_ext bizcode
$.track.Signup(user_id="u1", price="$5")
print("price is $", $.track.Signup.count().since("7d").run())  # $.nothing
$.track.Signup.count().by("price")
"""


def test_dollar_is_the_default_business(tmp_path):
    env = {
        **os.environ,
        "PYTHONPATH": str(SOURCE),
        "BIZCODE_URL": str(tmp_path / "acme"),
        "IPYTHONDIR": str(tmp_path),
    }
    command = [sys.executable, "-m", "IPython", "--no-banner", "--simple-prompt", "--colors=NoColor"]
    done = subprocess.run(
        command, input=SESSION, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=60
    )
    assert "price is $ 1" in done.stdout, done.stdout + done.stderr
    assert re.search(r"\$5 +1", done.stdout)
