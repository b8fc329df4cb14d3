"""Who is asking, and whether a browser was tricked into asking.

Without a token only this machine gets in: the peer is a loopback address, the Host header names one (a page that
rebinds a name of its own to 127.0.0.1 does not), and no proxy has passed the request on.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import InvalidValue
from .keys import Key, Keys
from .limits import Limiter
from .refused import Refused

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["COOKIE", "Gate", "Principal", "client_of", "hostname", "is_loopback", "same_origin"]

COOKIE = "bizcode_session"
SESSION = 14 * 86_400
SHORTEST = 16
_PROXIED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
_TOKEN = "token"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: `scope` is "admin" or "read"; `via` is "bearer", "session" or "local"."""

    scope: str
    via: str
    tenant: str | None = None


def hostname(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def is_loopback(name: str) -> bool:
    """Whether an address or name is this machine's own. Of names only localhost is: 127.0.0.1.example.com is
    whatever its owner says."""
    if name == "localhost":
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)


class Gate:
    """The checks of one app."""

    def __init__(self, store: Store, token: str | None) -> None:
        if token is not None and (not isinstance(token, str) or len(token) < SHORTEST):
            raise InvalidValue(f"a token has at least {SHORTEST} characters: let a generator make it")
        self.keys = Keys(store)
        self._store = store
        self._token = token
        self._failures = Limiter(0.5, 20)

    # with a key

    def write_key(self, text: str | None, client: str) -> Key:
        """The write key of that text. Raises Refused: missing, unknown, or one that may not write."""
        key = None if not text else self.keys.find(text)
        if key is not None and key.scope in ("write", "admin"):
            return key
        if self._failures.spent(client):
            raise Refused(429, "too many wrong keys from this address: wait a minute", {"retry-after": "60"})
        self._failures.take(client)
        if not text:
            raise Refused(401, "the write key is missing: `bizcode keys` shows it")
        if key is not None:
            raise Refused(403, "this token only reads: events are written with a write key")
        raise Refused(401, "the write key isn't known here: `bizcode keys` shows those that are")

    def principal(self, scope: dict[str, Any], headers: dict[str, str]) -> Principal:
        """Who asks for data. Raises Refused."""
        client = client_of(scope)
        scheme, _, text = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            found = self._by_text(text.strip(), client)
        elif (session := self._by_session(headers)) is not None:
            found = session
        elif self._token is None and self.local(scope, headers):
            found = Principal("admin", "local")
        else:
            raise Refused(401, "a token is needed: send it as Authorization: Bearer, or sign in")
        if found.via != "bearer":
            same_origin(scope, headers)
            _json(scope, headers)
        return found

    def _by_text(self, text: str, client: str) -> Principal:
        if self._failures.spent(client):
            raise Refused(
                429, "too many wrong tokens from this address: wait a minute", {"retry-after": "60"}
            )
        if self._token is not None and hmac.compare_digest(_digest(text), _digest(self._token)):
            return Principal("admin", "bearer")
        key = self.keys.find(text)
        if key is None:
            self._failures.take(client)
            raise Refused(401, "the token isn't known here")
        if key.scope == "write":
            raise Refused(403, "a write key only writes: reading needs a token")
        return Principal(key.scope, "bearer", key.tenant)

    def local(self, scope: dict[str, Any], headers: dict[str, str]) -> bool:
        """Whether the request comes from this machine, and means it."""
        if any(name in headers for name in _PROXIED):
            return False
        return is_loopback(client_of(scope)) and is_loopback(hostname(headers.get("host", "")))

    # with a session

    def sign_in(self, text: str, scope: dict[str, Any]) -> str:
        """The session that a token opens, for the cookie. Raises Refused."""
        found = self._by_text(text, client_of(scope))
        id = (
            _TOKEN
            if self._token is not None and text == self._token
            else hashlib.sha256(text.encode()).hexdigest()
        )
        until = f"{id}.{int(time.time()) + SESSION}"
        return f"{until}.{self._mac(until)}" if found else ""

    def _by_session(self, headers: dict[str, str]) -> Principal | None:
        try:
            kept = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return None
        until, _, mac = (kept.value if kept else "").rpartition(".")
        id, _, expiry = until.partition(".")
        if not expiry.isdigit() or not hmac.compare_digest(mac.encode(), self._mac(until).encode()):
            return None
        if int(expiry) < time.time():
            return None
        if id == _TOKEN:
            return None if self._token is None else Principal("admin", "session")
        key = self.keys.by_id(id)
        return None if key is None or key.scope == "write" else Principal(key.scope, "session", key.tenant)

    def _mac(self, text: str) -> str:
        secret = self._secret() + _digest(self._token or "")
        return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()

    def _secret(self) -> bytes:
        kept = self._store.log.cached("serve").get("secret")
        if kept is None:
            with self._store.log.transaction() as tx:
                kept = tx.get("serve", "secret")
                if kept is None:
                    kept = secrets.token_bytes(32)
                    tx.put("serve", "secret", kept)
        return kept


def client_of(scope: dict[str, Any]) -> str:
    """The peer's address, "" where there is none."""
    client = scope.get("client")
    return client[0] if client else ""


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def same_origin(scope: dict[str, Any], headers: dict[str, str]) -> None:
    """A browser says where a request comes from; another site's are refused. Raises Refused."""
    site = headers.get("sec-fetch-site")
    navigation = headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET"
    if site is not None and site not in ("same-origin", "none") and not navigation:
        raise Refused(403, "the request comes from another site")
    if scope["method"] in ("GET", "HEAD"):
        return
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        raise Refused(403, "the request comes from another origin")


def _json(scope: dict[str, Any], headers: dict[str, str]) -> None:
    """A form of another site can't send JSON, so nothing else is taken on the word of a cookie."""
    if scope["method"] in ("GET", "HEAD"):
        return
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "the body is application/json")
