"""Whose a bundle is: `ltbench export --sign` and `ltbench import --trust`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from kit.bundles import change, members_of, nothing_arrives, pack
from kit.command import ltbench, refused
from kit.keys import write_key
from kit.stores import made, run_of  # noqa: F401 - fixtures

from benchmark.audit.bundles import export, import_bundle


@pytest.fixture
def alice(tmp_path) -> Path:
    return write_key(tmp_path, "alice")


@pytest.fixture
def bundle(made, alice, tmp_path) -> Path:
    return export(run_of(made), tmp_path / "a.zip", alice)


@pytest.mark.parametrize("format", [PrivateFormat.OpenSSH, PrivateFormat.PKCS8], ids=["openssh", "pem"])
def test_who_signed_is_shown_and_trusted(made, tmp_path, format):
    key, other = write_key(tmp_path, "alice", format), write_key(tmp_path, "bob")
    run = run_of(made).path.name
    done = ltbench("export", run, "--results", made, "--out", tmp_path / "a.zip", "--sign", key)
    assert (done.returncode, done.stderr) == (0, "")
    done = ltbench("import", tmp_path / "a.zip", "--results", tmp_path / "one")
    assert f"imported: {run} (signed by SHA256:" in done.stdout and "nothing vouches for" in done.stdout
    keys = tmp_path / "keys"
    keys.write_text("# ours\n\nssh-rsa AAAAB3 old\n" + "".join(Path(f"{k}.pub").read_text() for k in (other, key)))
    done = ltbench("import", tmp_path / "a.zip", "--results", tmp_path / "two", "--trust", keys)
    assert done.returncode == 0 and f"imported: {run} (signed by alice@lab; dataset" in done.stdout
    done = ltbench("import", tmp_path / "a.zip", "--results", tmp_path / "two", "--trust", keys)
    assert f"already there: {run} (signed by alice@lab)" in done.stdout


def test_what_others_signed_or_nobody_is_refused_where_keys_are_given(made, bundle, tmp_path):
    bob = write_key(tmp_path, "bob")
    target = tmp_path / "results"
    refused(ltbench("import", bundle, "--results", target, "--trust", f"{bob}.pub"), "is signed by SHA256:", "bob.pub")
    unsigned = export(run_of(made), tmp_path / "b.zip")
    refused(ltbench("import", unsigned, "--results", target, "--trust", f"{bob}.pub"), "is not signed", "bob.pub")
    assert not target.exists()
    assert import_bundle(unsigned, target).signer is None


def test_a_signature_is_of_one_bundle(made, bundle, alice, tmp_path):
    """Neither for an edited bundle nor for another one, whether or not keys are given."""
    own = members_of(bundle)["signature.json"]
    edited = Path(shutil.copy(bundle, tmp_path / "edited.zip"))
    change(edited, lambda members: members.update({"config.yaml": b"command: rm\n"}))
    signature_named = json.loads(members_of(edited)["manifest.json"])
    assert "signature.json" in signature_named["files"]  # as `change` writes it: no member that a record names
    nothing_arrives(edited, tmp_path / "results", "signature.json")
    other = export(run_of(made, "asl"), tmp_path / "other.zip")
    pack(other, [*members_of(other).items(), ("signature.json", own)])
    nothing_arrives(other, tmp_path / "results", "signature.json: is not of this bundle", "exported again")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not a signature"),
        (b"\xff", "is not a signature"),
        (b"{}", "is not a signature"),
        (b'{"key": "ssh-rsa AAAA", "signature": ""}', "names no Ed25519 key"),
        (b'{"key": "", "signature": ""}', "names no Ed25519 key"),
        ("no base64", "is not of this bundle"),
        ("", "is not of this bundle"),
    ],
)
def test_a_signature_that_is_none(bundle, tmp_path, content, words):
    members = members_of(bundle)
    if isinstance(content, str):
        content = json.dumps(json.loads(members["signature.json"]) | {"signature": content}).encode()
    pack(bundle, (members | {"signature.json": content}).items())
    nothing_arrives(bundle, tmp_path / "results", f"signature.json: {words}")


def test_keys_that_are_none(made, bundle, tmp_path):
    run, folder = run_of(made).path.name, tmp_path / "keys"
    folder.mkdir()
    (folder / "text").write_text("hello")
    (folder / "bytes").write_bytes(b"\xff\xfe\x00")
    (folder / "half").write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me\n")
    rsa = generate_private_key(65537, 2048)
    (folder / "rsa").write_bytes(rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    locked = write_key(folder, "locked", PrivateFormat.PKCS8, b"secret")
    for file, words in (
        ("text", "is not a private Ed25519 key; make one with ssh-keygen"), ("bytes", "is not a private"),
        ("rsa", "is not a private Ed25519 key"), ("locked.pub", "is not a private"),
        ("none", "cannot be read: No such"), (locked.name, "is protected by a passphrase"),
        ("", "cannot be read: Is a directory"),
    ):  # fmt: skip
        done = ltbench("export", run, "--results", made, "--out", tmp_path / "x.zip", "--sign", folder / file)
        refused(done, str(folder / file), words)
        assert not (tmp_path / "x.zip").exists()
    for file, words in (
        ("text", "holds no ssh-ed25519 key"), ("bytes", "is not a UTF-8 text file"), ("half", "half:1: not a whole"),
        ("none", "No such file"), ("rsa", "holds no ssh-ed25519 key"),
    ):  # fmt: skip
        done = ltbench("import", bundle, "--results", tmp_path / "results", "--trust", folder / file)
        refused(done, str(folder / file), words)


def test_a_signed_bundle_is_the_same_bytes_each_time(made, alice, tmp_path):
    first, second = (export(run_of(made), tmp_path / name, alice).read_bytes() for name in ("1.zip", "2.zip"))
    assert first == second
