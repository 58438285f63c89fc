"""The file format of a bundle: one run in one zip file.

    manifest.json           format, the run, and sha256 and size of every other member
    record.json             as it was stored
    logits-<sha>.safetensors, epoch-<number>-<sha>.safetensors    the tensors that the record names
    config.yaml             for people: the command that repeats the run, and its specification
    signature.json          of a signed bundle: a public key, and its signature of the manifest

A bundle is untrusted: exactly the members of its manifest are read, and of each no more than its stated size.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field, ValidationError, field_validator

from benchmark import __version__
from benchmark.audit.files import RECORD, Files, Stated
from benchmark.audit.signatures import Signer, signed, signer
from benchmark.base.files import MOST_TEXT, ZIP_DAMAGE, open_regular
from benchmark.errors import StoreError
from benchmark.spec import Sha256, Strict
from benchmark.store.records import whole

FORMAT: Literal[1] = 1
CONFIG = "config.yaml"
_MANIFEST, _SIGNATURE = "manifest.json", "signature.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_AGAIN = "get the bundle again, or have it exported again"

# The largest size of a file of tensors that is read, in bytes.
MOST_TENSORS = 4 * 2**30
# The most bytes of a file of tensors beside its numbers.
_HEADER = 2**20
# The date of all members: the same run gives the same bundle, byte for byte.
_DATE = (1980, 1, 1, 0, 0, 0)


class Member(Strict):
    """A file in a bundle; size in bytes."""

    sha256: Sha256
    size: Annotated[int, Field(ge=0)]

    @classmethod
    def of(cls, content: bytes) -> Member:
        """The entry of a content in a manifest."""
        return cls(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


class Manifest(Strict):
    """The content of a bundle. run: the folder's name. ltbench: the version that wrote it."""

    format: Literal[1]
    run: str
    ltbench: str
    files: dict[str, Member]

    @field_validator("format", mode="before")
    @classmethod
    def _format_is_a_number(cls, value: object) -> object:
        return whole(value)


def packed(run: str, members: Mapping[str, bytes], key: Ed25519PrivateKey | None = None) -> bytes:
    """The bytes of a bundle of these members. key: signs it."""
    sums = {name: Member.of(content) for name, content in members.items()}
    manifest = Manifest(format=FORMAT, run=run, ltbench=__version__, files=sums).model_dump_json(indent=1).encode()
    signature = {} if key is None else {_SIGNATURE: signed(manifest, key)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in {_MANIFEST: manifest, **members, **signature}.items():
            # Not compressed: logits would become a tenth smaller, in several times the time.
            info = zipfile.ZipInfo(name, _DATE)
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content)
    return buffer.getvalue()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Bundle]:
    """A bundle, open for reading. Raises StoreError for a file that is no bundle or contradicts its manifest."""
    with contextlib.ExitStack() as stack:
        with _reading(path):
            file = stack.enter_context(open_regular(path))
            archive = stack.enter_context(zipfile.ZipFile(file))
        yield Bundle(path, archive)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raises any error of the zip file as a StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}; give the path of a bundle") from None
    except ZIP_DAMAGE as error:
        raise StoreError(f"{path}: not a whole zip file ({error}); {_AGAIN}") from None


class Bundle(Files):
    """An open bundle. signer: the owner of the key that signed the manifest; None for an unsigned bundle."""

    remedy = _AGAIN

    def __init__(self, path: Path, archive: zipfile.ZipFile):
        self.where = f"{path}: "
        self._path = path
        self._archive = archive
        self._infos = self._checked_members()
        content = self._read_manifest()
        self.manifest = self._checked_manifest(content)
        self.signer = self._checked_signature(content)

    def refuse(self, problem: str) -> StoreError:
        """The error for a problem of the bundle."""
        return StoreError(f"{self._path}: {problem}; {_AGAIN}")

    def read(self, name: str) -> bytes:
        """The content of a member. Raises StoreError where it is not the manifest's."""
        if name not in self.manifest.files:
            raise self.refuse(f"member {name!r} is missing")
        content = self._content(name, MOST_TEXT if name in (RECORD, CONFIG) else MOST_TENSORS)
        if Member.of(content) != self.manifest.files[name]:
            raise self.refuse(f"member {name!r} has another sha256 or size than the manifest says")
        return content

    def check_files(self, stated: Stated) -> None:
        """Raise StoreError unless the members are those that the record names, and no larger than its numbers."""
        tensors = {stated.file, *(epoch.file for epoch in stated.epochs)}
        expected, found = {RECORD, CONFIG, *tensors}, self.manifest.files
        wrong = min(expected ^ found.keys(), default=None)
        if wrong is not None:
            state = "missing" if wrong in expected else "nothing that the record names"
            raise self.refuse(f"member {wrong[:80]!r} is {state}")
        for name in tensors:
            if found[name].size > stated.num_bytes + _HEADER:
                size = f"has {found[name].size} bytes, more than the {stated.num_bytes} of the record's numbers"
                raise self.refuse(f"member {name!r} {size}")

    def _checked_members(self) -> dict[str, zipfile.ZipInfo]:
        infos: dict[str, zipfile.ZipInfo] = {}
        for info in self._archive.infolist():
            # Not `filename`, which zipfile has already cleaned.
            name = info.orig_filename
            if not _NAME.fullmatch(name):
                raise self.refuse(f"member {name[:80]!r} is not a plain file name")
            if name in infos:
                raise self.refuse(f"member {name!r} is there twice")
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
                raise self.refuse(f"member {name!r} is not a plain file")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise self.refuse(f"member {name!r} is compressed in a way that bundles are not")
            infos[name] = info
        return infos

    def _read_manifest(self) -> bytes:
        if _MANIFEST not in self._infos:
            raise self.refuse(f"has no {_MANIFEST}, so it is no bundle of ltbench")
        return self._content(_MANIFEST, MOST_TEXT)

    def _checked_manifest(self, content: bytes) -> Manifest:
        try:
            manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            raise self.refuse(f"{_MANIFEST}: {_manifest_fault(content, error)}") from None
        named, found = {_MANIFEST, *manifest.files}, self._infos.keys() - {_SIGNATURE}
        wrong = min(named ^ found, default=None)
        if wrong is not None:
            raise self.refuse(f"member {wrong[:80]!r} is {'missing' if wrong in named else 'not in the manifest'}")
        return manifest

    def _checked_signature(self, manifest: bytes) -> Signer | None:
        if _SIGNATURE not in self._infos:
            return None
        try:
            return signer(self._content(_SIGNATURE, MOST_TEXT), manifest)
        except ValueError as error:
            raise self.refuse(f"{_SIGNATURE}: {error}") from None

    def _content(self, name: str, most: int) -> bytes:
        info = self._infos[name]
        if info.file_size > most:
            raise self.refuse(f"member {name!r} has {info.file_size} bytes, more than the {most} that are read")
        with _reading(self._path), self._archive.open(info) as file:
            content = file.read(info.file_size + 1)
        if len(content) != info.file_size:
            raise self.refuse(f"member {name!r} has not the {info.file_size} bytes that the zip file says")
        return content


def _manifest_fault(content: bytes, refusal: ValidationError) -> str:
    with contextlib.suppress(ValueError, RecursionError, AttributeError):
        version = json.loads(content).get("format")
        if version != FORMAT or type(version) is not int:
            return f"format {version!r} is not known to this version of ltbench (known: {FORMAT})"
    first = refusal.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "manifest"
    return f"not a valid manifest: {place}: {first['msg']}"
