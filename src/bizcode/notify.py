"""Notifiers: `biz.Slack("ops").post("...")`. A post is stored as due and sent by the worker.

State spaces: "notifier" (targets that were added), "outbox" (messages that are due). Secrets (the targets'
addresses) never stand in a message of an error, in a log or in a repr.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import smtplib
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import orjson

from . import values
from .awaited import DONE, Done
from .clock import ManualClock
from .consume.dead import bury
from .errors import BizError, InvalidName, InvalidValue, NotFound
from .room import kept, within

if TYPE_CHECKING:
    from .store import Store

__all__ = ["KINDS", "DeliveryError", "Notifier", "Notifiers"]

KINDS = ("Slack", "Discord", "Email", "Telegram", "Teams", "Webhook", "SMS", "Push")
RETRIES = 3
TIMEOUT = 10.0


class DeliveryError(BizError):
    """A message could not be delivered; the reason, without the address."""


class Notifiers:
    """`biz.notifiers.add("Slack", "ops", url)`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        store.consumers.tickers(_Outbox(self))

    def add(self, kind: str, name: str, url: str) -> Done:
        """Set where a notifier's messages go; kept in the store.

        Args:
            kind: "Slack", "Discord", "Webhook", ..., or a capitalised name of your own (then as a webhook).
            name: which one, "ops".
            url: the webhook's address; `smtp://user:password@host:port/?to=a@b.c&from=d@e.f` for Email;
                `https://api.telegram.org/bot<token>/sendMessage?chat_id=...` for Telegram.
        """
        if not isinstance(kind, str) or not kind.isidentifier() or not kind[0].isupper():
            raise InvalidName(f"a kind of notifier is named like 'Slack', not {kind!r}")
        name = values.name(name, "a notifier")
        if not _is_address(url):
            raise InvalidValue(
                f"the address of {kind}({name!r}) must be a URL like https://... or smtp://..."
            )
        within(self._store, lambda room: room.put("notifier", f"{kind}/{name}", url.encode()))
        return DONE

    def _added(self) -> Mapping[str, bytes]:
        return kept(self._store, "notifier") if self._store.unit() else self._store.log.cached("notifier")

    def kinds(self) -> set[str]:
        """The kinds that were added."""
        return {key.partition("/")[0] for key in self._added()}

    def list(self) -> list[str]:
        """The notifiers that were added, as "Slack/ops"; never their addresses."""
        return sorted(self._added())

    def address(self, kind: str, name: str) -> str:
        """Where messages go. Raises NotFound that says how to set it."""
        added = self._added().get(f"{kind}/{name}")
        if added is not None:
            return added.decode()
        variable = f"BIZCODE_{kind}_{re.sub(r'[^A-Za-z0-9]', '_', name)}".upper()
        found = os.environ.get(variable)
        if not found:
            raise NotFound(
                f"{kind}({name!r}) has no address: set it by biz.notifiers.add({kind!r}, {name!r}, url) or by {variable}"
            )
        return found

    def notifier(self, kind: str, name: str) -> Notifier:
        return Notifier(self, kind, values.name(name, f"a {kind} notifier"))

    def post(self, kind: str, name: str, text: str, extra: dict[str, Any]) -> str:
        """Store a message as due, within the open `biz.do` if there is one; its id."""
        # Those of one instant go out in the order in which they were posted.
        id = f"{self._store.now():020d}-{time.time_ns():016x}{uuid.uuid4().hex[:8]}"
        message = orjson.dumps({"kind": kind, "name": name, "text": text, "extra": extra, "attempts": 0})
        unit = self._store.unit()
        if unit is not None:
            unit.put("outbox", id, message)
            unit.after(self._store.consumers.poke)
        else:
            with self._store.log.transaction() as tx:
                tx.put("outbox", id, message)
        self._store.consumers.start()
        return id

    def send(self, kind: str, name: str, text: str, extra: dict[str, Any], key: str) -> None:
        """Deliver now. Raises DeliveryError, NotFound."""
        url = self.address(kind, name)
        try:
            _deliver(kind, url, text, extra, key)
        except urllib.error.HTTPError as error:
            raise DeliveryError(f"{kind}({name!r}) answered {error.code}: {error.reason}") from None
        except (OSError, http.client.HTTPException, smtplib.SMTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            what = type(reason).__name__ if isinstance(reason, BaseException) else reason
            raise DeliveryError(f"{kind}({name!r}) can't be reached: {what}") from None

    def __repr__(self) -> str:
        return f"biz.notifiers({', '.join(self.list())})"


class Notifier:
    """`biz.Slack("ops")`."""

    def __init__(self, notifiers: Notifiers, kind: str, name: str) -> None:
        self._notifiers = notifiers
        self._kind = kind
        self._name = name

    def post(self, text: Any, *, now: bool = False, **extra: Any) -> Posted:
        """Send a message.

        Args:
            text: the message.
            now: send at once and raise what goes wrong; else it is stored as due, sent by the worker,
                retried, and after that left as a dead letter.
            extra: further fields of the body, as the service takes them.
        Raises:
            InvalidValue: a message that is blank or no text. NotFound: no address is set (only with now).
            DeliveryError (only with now).
        """
        if text is None or isinstance(text, (bool, bytes, Mapping, list, tuple, set)):
            raise InvalidValue(
                f"{self._kind}({self._name!r}).post takes text, not a {type(text).__name__}: further fields of "
                "the body are keywords, like post('text', channel='#ops')"
            )
        if not str(text).strip():
            raise InvalidValue(
                f"{self._kind}({self._name!r}).post takes text that is not blank, not {text!r}"
            )
        body = values.plain(extra, self._notifiers._store.tz)
        if now:
            id = uuid.uuid4().hex
            self._notifiers.send(self._kind, self._name, str(text), body, id)
            return Posted(id)
        return Posted(self._notifiers.post(self._kind, self._name, str(text), body))

    def __repr__(self) -> str:
        return f"biz.{self._kind}({self._name!r})"


class Posted(str):
    """The id of a message; awaiting it gives it."""

    __slots__ = ()

    def __await__(self):
        return self
        yield


def _is_address(url: object) -> bool:
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        return False
    return parts is not None and parts.scheme in ("http", "https", "smtp", "smtps") and bool(parts.hostname)


def _deliver(kind: str, url: str, text: str, extra: dict[str, Any], key: str) -> None:
    parts = urlsplit(url)
    if parts.scheme in ("smtp", "smtps"):
        _mail(parts, text, extra, key)
        return
    body: dict[str, Any] = {"content": text} if kind == "Discord" else {"text": text}
    if kind == "Telegram":
        chat = parse_qs(parts.query).get("chat_id")
        if chat:
            body["chat_id"] = chat[0]
    data = json.dumps({**body, **extra}).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "bizcode", "Idempotency-Key": key}
    request = urllib.request.Request(url, data=data, headers=headers, method="POST")
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        response.read()


def _mail(parts: Any, text: str, extra: dict[str, Any], key: str) -> None:
    query = parse_qs(parts.query)
    message = EmailMessage()
    message["Subject"] = str(extra.get("subject") or text.splitlines()[0][:100])
    message["To"] = ", ".join(query.get("to", []))
    message["From"] = query.get("from", [f"bizcode@{parts.hostname}"])[0]
    message["Message-ID"] = f"<{key}@bizcode>"
    message.set_content(text)
    client = smtplib.SMTP_SSL if parts.scheme == "smtps" else smtplib.SMTP
    with client(parts.hostname, parts.port or 0, timeout=TIMEOUT) as server:
        if parts.username:
            server.login(unquote(parts.username), unquote(parts.password or ""))
        server.send_message(message)


class _Outbox:
    """Sends what is due. A message that failed is due again later, and is a dead letter in the end."""

    name = "outbox"

    def __init__(self, notifiers: Notifiers) -> None:
        self._notifiers = notifiers

    def due(self) -> int | None:
        found = self._notifiers._store.log.scan("outbox", limit=1)
        return int(found[0][0].split("-")[0]) if found else None

    def tick(self, now: int) -> None:
        store = self._notifiers._store
        for key, value in store.log.scan("outbox", limit=100):
            if int(key.split("-")[0]) > now:
                return
            message = orjson.loads(value)
            kind, name = message["kind"], message["name"]
            try:
                self._notifiers.send(kind, name, message["text"], message["extra"], key.split("-", 1)[1])
            except BizError as error:
                self._failed(key, message, error)
            else:
                with store.log.transaction() as tx:
                    tx.delete("outbox", key)

    def _failed(self, key: str, message: dict[str, Any], error: BizError) -> None:
        store = self._notifiers._store
        attempts = message["attempts"] + 1
        with store.log.transaction() as tx:
            tx.delete("outbox", key)
            if attempts > RETRIES:
                shown = {key: message[key] for key in ("kind", "name", "text", "extra")}
                consumer = f"notify:{message['kind']}({message['name']})"
                bury(tx, consumer, None, error, attempts, store.now(), shown, key)
                return
            # Where time stands still (a ManualClock), one drain() tries them all.
            wait = 0 if isinstance(store.clock, ManualClock) else 4 ** (attempts - 1) * 1_000_000
            at, id = key.split("-", 1)
            later = store.now() + wait if wait else int(at)
            tx.put("outbox", f"{later:020d}-{id}", orjson.dumps({**message, "attempts": attempts}))
