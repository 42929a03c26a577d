"""Salts: patients are known again by a digest, and not by name."""

from __future__ import annotations

import hashlib
import hmac
import secrets


def new_salt() -> str:
    """Return a fresh salt for patient digests."""
    return secrets.token_hex(16)


def salt_under(key: str | bytes, salt: str) -> str:
    """Return the salt that only who holds the key can derive: HMAC-SHA256 of the public one.

    Examples
    --------
    >>> salt_under("ours", "ab") == salt_under("theirs", "ab")
    False
    """
    secret = key.encode() if isinstance(key, str) else key
    return hmac.new(secret, salt.encode(), hashlib.sha256).hexdigest()
