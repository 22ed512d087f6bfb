"""Clients that keep connections and send nothing more, as long as they are let."""

from __future__ import annotations

import socket
import time
from itertools import chain
from typing import Self

from rapport.local.stack.running import Stack
from rapport.local.supabase.gateway import LOGINS_AT_ONCE, POSTS_AT_ONCE
from rapport.local.supabase.rest import MAX_CONNECTIONS
from rapport.server.host import AT_ONCE

PATIENCE = 60.0  # seconds; the deadlines are 10
BEYOND = 2


class SlowClients:
    """More clients with half a body than any service has places, and some without a head."""

    def __init__(self, stack: Stack) -> None:
        bodies = {
            "/rest/v1/contacts": (stack.gateway_port, MAX_CONNECTIONS),
            "/auth/v1/token?grant_type=password": (stack.gateway_port, LOGINS_AT_ONCE),
            "/realtime/v1/api/broadcast": (stack.gateway_port, POSTS_AT_ONCE),
            "/phone/messages": (stack.gateway_port, 0),
            "/api/webhooks/whatsapp": (stack.functions_port, AT_ONCE),
        }
        self.bodies = {
            path: [
                _connected(stack.host, port, _half(path, f"{stack.host}:{port}", key))
                for key in [stack.publishable_key] * (places + BEYOND)
            ]
            for path, (port, places) in bodies.items()
        }
        ports = (stack.gateway_port, stack.functions_port)
        self.silent = [_connected(stack.host, port, "") for port in ports]
        self.begun = [_connected(stack.host, port, "GET /health HT") for port in ports]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in chain(self.silent, self.begun, *self.bodies.values()):
            one.close()


def _half(path: str, host: str, key: str) -> str:
    """A request whose body only begins."""
    head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\napikey: {key}\r\n"
    return head + "content-length: 1000\r\n\r\n{"


def told(client: socket.socket) -> bytes:
    """What the server has said when it ends the connection."""
    client.settimeout(PATIENCE)
    until = time.monotonic() + PATIENCE
    said = b""
    while time.monotonic() < until:
        piece = client.recv(65536)
        if not piece:
            return said
        said += piece
    raise TimeoutError


def _connected(host: str, port: int, sent: str) -> socket.socket:
    client = socket.create_connection((host, port))
    client.sendall(sent.encode())
    return client
