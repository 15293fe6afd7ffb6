"""Pictures at http(s) addresses, where a server is told to get them: never from a network that is not public.

A name is resolved once; every address behind it must be public, and the connection goes to the address that was
checked, so that a second answer of the name cannot lead elsewhere. Each redirect is checked likewise.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from urllib.parse import urljoin, urlsplit

import httpx

from flamingo_app.errors import PictureError
from flamingo_app.interfaces.service import Limits

SECONDS = 10.0
MOST_REDIRECTS = 3


def fetch_picture(url: str, *, most_bytes: int = Limits.picture_bytes) -> bytes:
    """The bytes at an address, at most one more than may be.

    Raises:
        PictureError: for an address that is not public, and for whatever does not give a file in time.
    """
    until = time.monotonic() + SECONDS
    try:
        for _ in range(MOST_REDIRECTS + 1):
            found = _get(url, most_bytes, until)
            if isinstance(found, bytes):
                return found
            url = urljoin(url, found)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):
        raise _refused(url, "which gives no file") from None
    raise _refused(url, "which leads on and on")


def _get(url: str, most_bytes: int, until: float) -> bytes | str:
    """The file, or where it is instead."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise _refused(url, "which is no http or https address")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = public_address(parts.hostname, port, url)
    host = f"[{address}]" if ":" in address else address
    pinned = f"{parts.scheme}://{host}:{port}{parts.path or '/'}{'?' * bool(parts.query)}{parts.query}"
    with (
        httpx.Client(timeout=max(0.1, until - time.monotonic()), trust_env=False) as client,
        client.stream(
            "GET", pinned, headers={"Host": parts.netloc}, extensions={"sni_hostname": parts.hostname}
        ) as response,
    ):
        if response.is_redirect:
            return response.headers["location"]
        response.raise_for_status()
        data = b""
        for piece in response.iter_bytes():
            data += piece
            if len(data) > most_bytes or time.monotonic() > until:
                break
        if time.monotonic() > until:
            raise _refused(url, "which takes too long")
        return data


def public_address(host: str, port: int, url: str) -> str:
    """An address of a host all of whose addresses are public."""
    answers = {str(answer[4][0]) for answer in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    if not answers or not all(is_public(answer) for answer in answers):
        raise _refused(url, "which is not on the public network")
    return sorted(answers)[0]


def is_public(address: str) -> bool:
    """Whether anybody may reach an address, and whatever it wraps is public, too."""
    known = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(known, ipaddress.IPv6Address):
        wrapped = [known.ipv4_mapped, known.sixtofour, *(known.teredo or ())]
        if any(inner is not None for inner in wrapped) or known.is_site_local:
            return False
    inside = any(known in network for network in NOT_PUBLIC)
    return known.is_global and not (inside or known.is_multicast or known.is_reserved)


NOT_PUBLIC = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "64:ff9b::/96", "64:ff9b:1::/48")))
"""Protocol assignments and translators, which `ipaddress` takes for public in some versions of Python."""


def _refused(url: str, why: str) -> PictureError:
    return PictureError(
        expected="a picture at a public address", got=f"{url[:80]!r}, {why}", remedy="send the picture itself"
    )
