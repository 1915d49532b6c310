"""Who may ask: this machine, or who has the token; and from which pages."""

from __future__ import annotations

import hashlib
import hmac
import html
import re
import secrets
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_PORT = re.compile(r":[0-9]{1,5}\Z")
_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def new_token() -> str:
    """A secret for the first address."""
    return secrets.token_urlsafe(24)


class Door:
    """Lets in requests for a host that this server has, one of ``hosts`` at any port; from its own pages; and with the
    ``token`` if there is one, in the first address (``?token=``), afterwards in a cookie.

    A page of another site that has this machine's address under a name of its own (DNS rebinding) sends that name as
    the host; one that asks from elsewhere sends its own as the origin. Both are refused with status 403. A server with
    a token may have any name; its cookie belongs to the one at which the token was given.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str], token: str | None, close: Callable[[], None]):
        self.app, self.hosts, self.token = app, hosts, token
        self.cookie = "" if token is None else f"sagan-{hashlib.sha256(token.encode()).hexdigest()[:8]}"
        """Its name, which other servers of this machine do not have."""
        self.close = close
        """Ends answers that would never end by themselves."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        refused = self._refusal(scope, headers)
        if refused is not None:
            await PlainTextResponse(refused, status_code=403, headers=_HEADERS)(scope, receive, send)
            return
        if self.token is not None:
            query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
            if (given := query.pop("token", None)) is not None and _same(given, self.token):
                place = "/" + scope["path"].lstrip("/")  # "//name/" would be another server
                answer = _going_on(place + ("?" + urlencode(query) if query else ""))
                answer.set_cookie(self.cookie, self.token, httponly=True, samesite="strict", path="/")
                await answer(scope, receive, send)
                return
            if not _same(_cookie(headers, self.cookie), self.token):
                text = "This page needs its token: open the address that `sagan serve` printed."
                await PlainTextResponse(text, status_code=401, headers=_HEADERS)(scope, receive, send)
                return

        async def send_with_headers(message):  # type: ignore[no-untyped-def]
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((name.encode(), value.encode()) for name, value in _HEADERS.items()),
                ]
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if self.hosts and _PORT.sub("", host.lower()) not in self.hosts:
            return "This server has another name: open the address that `sagan serve` printed."
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            return "This server answers only its own pages."
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return "This server only shows."
        return None


def _going_on(place: str) -> HTMLResponse:
    """A page that goes on by itself, and not a redirect: after a click on another site's link, a browser would not send
    the new cookie along with that."""
    target = html.escape(place)
    page = f'<!doctype html><meta http-equiv="refresh" content="0;url={target}"><a href="{target}">Go on</a>'
    return HTMLResponse(page, headers=_HEADERS)


def _cookie(headers: Headers, name: str) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())
