"""Keys for signatures."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)


def write_key(folder: Path, name: str, format: PrivateFormat = PrivateFormat.OpenSSH, lock: bytes = b"") -> Path:
    """A private key, and its public one beside it."""
    key = Ed25519PrivateKey.generate()
    encryption = BestAvailableEncryption(lock) if lock else NoEncryption()
    (folder / name).write_bytes(key.private_bytes(Encoding.PEM, format, encryption))
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    (folder / f"{name}.pub").write_text(f"{public} {name}@lab\n")
    return folder / name
