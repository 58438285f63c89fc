"""Signatures of bundles: Ed25519, with the keys that people have for SSH.

    ssh-keygen -t ed25519 -N "" -f KEY      makes KEY, which signs, and KEY.pub, which is given to others

A file of trusted keys has a public key a line, in the form of `KEY.pub` and `authorized_keys`; the text after a key is
its owner's name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_key,
)
from pydantic import ValidationError

from benchmark.base.files import MOST_TEXT, read_regular
from benchmark.errors import InputError
from benchmark.spec import Strict

_TYPE = "ssh-ed25519"
# Every signed text begins so: a signature made for another purpose is not valid for a bundle.
_PURPOSE = b"ltbench bundle\n"
_MAKE = 'make one with ssh-keygen -t ed25519 -N "" -f KEY'


class Signature(Strict):
    """A signature as a bundle stores it. key: public, as in a file of keys. signature: base64, of the manifest."""

    key: str
    signature: str


@dataclass(frozen=True)
class Signer:
    """The key that signed a bundle. key: public, as in a file of keys, without a name."""

    key: str

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` prints it."""
        digest = hashlib.sha256(base64.b64decode(self.key.split()[1])).digest()
        return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def signing_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a file in OpenSSH's format or PEM. Raises InputError."""
    content = _content(path)
    load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in content else load_pem_private_key
    try:
        key = load(content, password=None)
    except TypeError:
        raise InputError(f"{path}: is protected by a passphrase; {_MAKE} for this purpose") from None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path}: is not a private Ed25519 key; {_MAKE}")
    return key


def signed(content: bytes, key: Ed25519PrivateKey) -> bytes:
    """The signature of a manifest, as a bundle holds it."""
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    value = base64.b64encode(key.sign(_PURPOSE + content)).decode()
    return Signature(key=public, signature=value).model_dump_json(indent=1).encode()


def signer(signature: bytes, content: bytes) -> Signer:
    """The key that signed a manifest. Raises ValueError for an invalid signature."""
    try:
        given = Signature.model_validate_json(signature)
    except ValidationError:
        raise ValueError("is not a signature") from None
    key = _public(given.key)
    if key is None or len(given.key.split()) != 2:
        raise ValueError("names no Ed25519 key")
    try:
        key.verify(base64.b64decode(given.signature, validate=True), _PURPOSE + content)
    except (InvalidSignature, binascii.Error, ValueError):
        raise ValueError("is not of this bundle") from None
    return Signer(given.key)


def trusted_keys(path: Path) -> dict[Signer, str]:
    """The Ed25519 keys of a file and their owners' names; keys of other kinds are skipped. Raises InputError."""
    try:
        lines = _content(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not a UTF-8 text file; give one public key a line, as in KEY.pub") from None
    found: dict[Signer, str] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if line.lstrip().startswith("#") or _TYPE not in words:
            continue
        at = words.index(_TYPE)
        key = " ".join(words[at : at + 2])
        if _public(key) is None:
            raise InputError(f"{path}:{number}: not a whole {_TYPE} key; copy the line of KEY.pub")
        # After the key, or before it, as in a file of allowed signers.
        found[Signer(key)] = " ".join(words[at + 2 :] or words[:at])
    if not found:
        raise InputError(f"{path}: holds no {_TYPE} key; give one a line, as in KEY.pub")
    return found


def _public(key: str) -> Ed25519PublicKey | None:
    try:
        loaded = load_ssh_public_key(key.encode())
    except (ValueError, UnsupportedAlgorithm):
        return None
    return loaded if isinstance(loaded, Ed25519PublicKey) else None


def _content(path: Path) -> bytes:
    try:
        return read_regular(path, MOST_TEXT)
    except OSError as error:
        raise InputError(f"{path}: the key cannot be read: {error.strerror or error}") from None
