"""Who may come in: names with passwords for the page, keys for programs, both from files of `name:secret` lines."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

from flamingo_app.errors import ConfigError


def read_secrets(path: str | Path) -> dict[str, str]:
    """Secrets by name.

    A secret is written as it is, or as `scrypt$salt$hash` in hexadecimal, see `hashed`. Empty lines and those that
    begin with # are passed over.

    Raises:
        ConfigError: for a file that cannot be read, or a line of another shape.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise ConfigError(
            expected="a file of name:secret lines", got=f"{str(path)!r}: {reason}", remedy="check the path"
        ) from None
    secrets: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith("#"):
            name, colon, secret = line.strip().partition(":")
            if not (name and colon and secret):
                raise ConfigError(expected="name:secret", got=f"line {number} of {str(path)!r}", remedy="correct it")
            secrets[name] = secret
    return secrets


def hashed(secret: str, salt: bytes) -> str:
    """A secret that can be compared with and not read."""
    digest = hashlib.scrypt(secret.encode(), salt=salt, n=2**14, r=8, p=1)
    return f"scrypt${salt.hex()}${digest.hex()}"


def is_secret(given: str, kept: str) -> bool:
    """Whether somebody knows a secret, in a time that tells nothing about it."""
    if kept.startswith("scrypt$"):
        given = hashed(given, bytes.fromhex(kept.split("$")[1]))
    return hmac.compare_digest(given.encode(), kept.encode())


class Users:
    """Names with passwords, and names with keys; without either everybody may come in.

    Args:
        passwords: for the page.
        keys: for programs.
    """

    def __init__(self, passwords: dict[str, str] | None = None, keys: dict[str, str] | None = None) -> None:
        self.passwords, self.keys = passwords or {}, keys or {}
        self._known: dict[str, str] = {}

    @property
    def closed(self) -> bool:
        """Whether programs must say who they are."""
        return bool(self.passwords or self.keys)

    def of_request(self, authorization: str) -> str | None:
        """Whose request it is by its Authorization header: a person's password (Basic), or a key (Bearer)."""
        digest = hashlib.sha256(authorization.encode()).hexdigest()
        if digest not in self._known:  # a hash that is slow on purpose is computed once
            name = self._find(authorization)
            if name is None:
                return None
            self._known[digest] = name
        return self._known[digest]

    def _find(self, authorization: str) -> str | None:
        scheme, _, given = authorization.partition(" ")
        match scheme.lower():
            case "bearer":
                return next((name for name, kept in self.keys.items() if is_secret(given.strip(), kept)), None)
            case "basic":
                try:
                    name, _, password = base64.b64decode(given, validate=True).decode().partition(":")
                except ValueError:
                    return None
                return name if name in self.passwords and is_secret(password, self.passwords[name]) else None
            case _:
                return None
