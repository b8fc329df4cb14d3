"""`%load_ext bizcode`: in IPython and Jupyter `$` is the default business."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["load_ipython_extension", "translate", "unload_ipython_extension"]

NAME = "__bizcode_default__"
_TOKEN = re.compile(
    r"""(?P<skip>\#[^\n]*|(?:[rbfuRBFU]{0,2})(?:'''(?:\\.|[^\\])*?'''|\"\"\"(?:\\.|[^\\])*?\"\"\""""
    r"""|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"))|(?P<dollar>\$)""",
    re.DOTALL,
)


def translate(lines: list[str]) -> list[str]:
    """`$` outside of texts and comments as the default business.

    >>> translate(["$.track.Signup.count()  # $5\\n"])
    ['__bizcode_default__.track.Signup.count()  # $5\\n']
    """
    text = "".join(lines)
    if "$" not in text or text.lstrip().startswith("%%"):
        return lines
    made = _TOKEN.sub(lambda match: NAME if match["dollar"] else match[0], text).splitlines(keepends=True)
    # A line of a magic or of the shell keeps its own `$`.
    return (
        [line if line.lstrip().startswith(("%", "!")) else new for line, new in zip(lines, made, strict=True)]
        if len(made) == len(lines)
        else made
    )


class _Default:
    """The default business, opened at first use."""

    def __getattr__(self, name: str) -> Any:
        import bizcode

        return getattr(bizcode.biz, name)

    def __repr__(self) -> str:
        import bizcode

        return repr(bizcode.biz)

    def __dir__(self) -> list[str]:
        import bizcode

        return dir(bizcode.biz)


def load_ipython_extension(shell: Any) -> None:
    """Make `$` the default business."""
    shell.user_ns[NAME] = _Default()
    if translate not in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.append(translate)


def unload_ipython_extension(shell: Any) -> None:
    """Make `$` nothing again."""
    shell.user_ns.pop(NAME, None)
    if translate in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.remove(translate)
