"""Agents: a role that answers from what it is given, by any endpoint that speaks the OpenAI protocol."""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import urllib.error
import urllib.request
from typing import Any

from . import values
from .errors import BizError, InvalidValue
from .query import Lazy
from .query.base import Query

__all__ = ["Agent"]

TIMEOUT = 120.0


class Agent:
    """Someone on the team.

    Args:
        name: how it is called.
        role: what it does, "head of marketing".
        instructions: anything else it should keep to.

    The endpoint is `BIZCODE_LLM_URL` (like https://host/v1), with `BIZCODE_LLM_KEY` and `BIZCODE_LLM_MODEL`.
    It is given only what is passed.
    """

    def __init__(self, name: str, role: str = "", instructions: str = "") -> None:
        self.name = values.name(name, "an agent")
        self.role = role
        self.instructions = instructions

    def __call__(self, prompt: str, *context: Any) -> Lazy[str]:
        """A lazy answer: `.run()` or `await`. Queries among the context are run first.

        Raises:
            InvalidValue: a blank prompt.
        Raises when run:
            BizError: no endpoint is set, or it can't answer.
        """
        if not isinstance(prompt, str) or not prompt.strip():
            raise InvalidValue(f"an agent is asked with text that is not blank, not {prompt!r}")
        return Lazy(lambda: self._ask(prompt, context), "answer")

    def _ask(self, prompt: str, context: tuple[Any, ...]) -> str:
        url, model = os.environ.get("BIZCODE_LLM_URL"), os.environ.get("BIZCODE_LLM_MODEL")
        if not url or not model:
            raise BizError(
                "agents need an endpoint that speaks the OpenAI protocol: set BIZCODE_LLM_URL (like "
                "https://host/v1), BIZCODE_LLM_MODEL and, if it asks for one, BIZCODE_LLM_KEY"
            )
        if not url.startswith(("http://", "https://")):
            raise BizError(f"BIZCODE_LLM_URL is {url!r}, not a URL like https://host/v1")
        parts = [prompt, *(_text(item) for item in context)]
        system = f"You are {self.name}" + (f", {self.role}" if self.role else "") + ". " + self.instructions
        messages = [
            {"role": "system", "content": system.strip()},
            {"role": "user", "content": "\n\n".join(parts)},
        ]
        headers = {"Content-Type": "application/json"}
        key = os.environ.get("BIZCODE_LLM_KEY")
        if key:
            headers["Authorization"] = f"Bearer {key}"
        body = json.dumps({"model": model, "messages": messages}).encode()
        request = urllib.request.Request(
            url.rstrip("/") + "/chat/completions", data=body, headers=headers, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                answer = json.loads(response.read())
            text = answer["choices"][0]["message"]["content"]
            if not isinstance(text, str):
                raise TypeError("no text")
            return text
        except urllib.error.HTTPError as error:
            raise BizError(f"the model's endpoint answered {error.code}: {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            raise BizError(f"the model's endpoint can't be reached: {error}") from None
        except (KeyError, IndexError, TypeError, ValueError):
            raise BizError(
                "the model's endpoint answered something that is not the OpenAI protocol"
            ) from None

    def __repr__(self) -> str:
        return f"Agent({self.name!r}, role={self.role!r})"


def _text(item: Any) -> str:
    if isinstance(item, Query):
        item = item.run()
    return item if isinstance(item, str) else json.dumps(_plain(item), default=str, ensure_ascii=False)


def _plain(item: Any) -> Any:
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return {f.name: _plain(getattr(item, f.name)) for f in dataclasses.fields(item)}
    if isinstance(item, dict):
        return {str(key): _plain(value) for key, value in item.items()}
    if isinstance(item, (list, tuple)):
        return [_plain(value) for value in item]
    return item
