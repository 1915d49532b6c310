"""Listening: the socket, the address that is printed, and the end at Ctrl-C."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from pathlib import Path

import torch
import uvicorn

from sagan.gallery.app import make_app
from sagan.gallery.door import Door, new_token
from sagan.system.console import Console
from sagan.system.errors import UserError


def run_server(root: Path, host: str, port: int, device: torch.device, console: Console) -> None:
    """Serves a folder of runs until it is interrupted. Raises UserError where it cannot listen there."""
    listening = _listen(host, port)
    port = listening.getsockname()[1]
    token = None if _is_own(host) else new_token()
    app = make_app(root, device, _names(host) if token is None else frozenset(), token)
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    shown = "localhost" if host in ("127.0.0.1", "::1") else shown
    console.say(f"runs in {root}: http://{shown}:{port}/{'' if token is None else f'?token={token}'}")
    console.say("Ctrl-C ends it")
    config = uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=1, server_header=False)
    with listening, contextlib.suppress(KeyboardInterrupt):  # which ends it, and is no error
        _Server(config, app).run(sockets=[listening])


class _Server(uvicorn.Server):
    """Ends the streams of open pages first, for which it would wait in vain."""

    def __init__(self, config: uvicorn.Config, door: Door):
        super().__init__(config)
        self.door = door

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.door.close()
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot listen at {host}, port {port} ({reason}): give another `port` or `host`") from error
    return found


def _is_own(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _names(host: str) -> frozenset[str]:
    """The names by which this machine asks a server of its own, whatever the port, which a tunnel may change."""
    return frozenset({"localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host.lower()})
