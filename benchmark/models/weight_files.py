"""Files of pretrained weights: where they are published, and where they are looked for on this machine.

An `Architecture.published` returns a `WeightsSource` with one of them. Another kind of source is another subclass of
`WeightsFile`: it must say its `path`, and whatever of `address`, `sha256`, `remedy` and `download` it has.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import sysconfig
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmark.base.download import SILENCE_S, DownloadError, check_connection, download
from benchmark.base.files import is_file
from benchmark.ui.progress import Reporter
from benchmark.ui.text import in_bytes

_SHA256 = re.compile(r"[0-9a-f]{64}")
# Git's digests: of a commit, and of a small file.
_SHA1 = re.compile(r"[0-9a-f]{40}")
_REVISION = "main"


class WeightsFile(ABC):
    """One file of weights. Nothing is read or fetched when it is made."""

    @property
    @abstractmethod
    def path(self) -> Path:
        """Its place on this machine. Where it is missing: the place to put it by hand."""

    @property
    def address(self) -> str:
        """The address that it is published at; "" for a file that is not fetched."""
        return ""

    @property
    def sha256(self) -> str:
        """The digits, at most 64, that its published sha256 begins with; "" where none is known here."""
        return ""

    def is_here(self) -> bool:
        """Whether there is a file at its place."""
        return is_file(self.path)

    def remedy(self, name: str) -> str:
        """What to do where it is missing, on a machine without a network too. name: see `PretrainedWeights`."""
        digest = f" (sha256 {self.sha256}{'' if len(self.sha256) == 64 else '...'})" if self.sha256 else ""
        return (
            f"put {self.address}{digest} at {self.path}, or run `ltbench weights fetch {name}` on a machine with a "
            "network and bring its cache, or give a file with --weights PATH"
        )

    def download(self, reporter: Reporter) -> None:
        """Bring it to its place. Raises DownloadError, with the reason."""
        raise DownloadError("it is published nowhere")


class LocalFile(WeightsFile):
    """A file of the user's, or one that comes with this package. sha256: its digest."""

    def __init__(self, path: Path, sha256: str):
        self._path, self._sha256 = path, sha256

    @property
    def path(self) -> Path:
        return self._path

    @property
    def sha256(self) -> str:
        return self._sha256

    def remedy(self, name: str) -> str:
        return f"put the file back at {self.path}, or give other weights"


class UrlFile(WeightsFile):
    """A file at a plain address. sha256: see `WeightsFile`."""

    def __init__(self, address: str, path: Path, sha256: str):
        self._address, self._path, self._sha256 = address, path, sha256

    @property
    def path(self) -> Path:
        return self._path

    @property
    def address(self) -> str:
        return self._address

    @property
    def sha256(self) -> str:
        return self._sha256

    def download(self, reporter: Reporter) -> None:
        download(self.address, self.path, self.sha256, partial(_shown, reporter, self.path.name))


class PackageFile(WeightsFile):
    """A file in an installed Python package, which is looked up and never imported.

    module: the package's name for imports. name: of the file within. remedy: the command that installs the package.
    """

    def __init__(self, module: str, name: str, sha256: str, remedy: str):
        self._module, self._name, self._sha256, self._remedy = module, name, sha256, remedy

    @property
    def path(self) -> Path:
        spec = importlib.util.find_spec(self._module)
        installed = Path(spec.origin).parent if spec and spec.origin else None
        return (installed or Path(sysconfig.get_path("purelib")) / self._module) / self._name

    @property
    def sha256(self) -> str:
        return self._sha256

    def remedy(self, name: str) -> str:
        return self._remedy

    def download(self, reporter: Reporter) -> None:
        raise DownloadError("they are a Python package that is not installed")


class HubFile(WeightsFile):
    """A file of a repository of the Hugging Face Hub, in the cache that its library shares (HF_HOME, HF_HUB_CACHE).

    names: of files with the same content; the first that the repository has is fetched.
    """

    def __init__(self, repository: str, *names: str):
        self._repository, self._names = repository, names

    @property
    def path(self) -> Path:
        from huggingface_hub import try_to_load_from_cache

        cached = (try_to_load_from_cache(self._repository, name) for name in self._names)
        try:
            found = next((path for path in cached if isinstance(path, str)), None)
        except (OSError, ValueError):  # the library reads the reference as `_revision` does, which may be damaged
            found = None
        return Path(found) if found else self._folder / "snapshots" / self._revision / self._names[0]

    @property
    def address(self) -> str:
        from huggingface_hub import hf_hub_url

        return hf_hub_url(self._repository, self.path.name)

    @property
    def sha256(self) -> str:
        """The cache calls the file itself by the digest that the Hub says, and links the file's name to it."""
        target = self.path.resolve().name
        return target if _SHA256.fullmatch(target) else ""

    @property
    def _folder(self) -> Path:
        from huggingface_hub.constants import HF_HUB_CACHE
        from huggingface_hub.file_download import repo_folder_name

        return Path(HF_HUB_CACHE) / repo_folder_name(repo_id=self._repository, repo_type="model")

    @property
    def _revision(self) -> str:
        """The commit that the cache has of the branch. Without one, files below the branch's name are found too."""
        try:
            commit = (self._folder / "refs" / _REVISION).read_text(encoding="ascii").strip()
        except (OSError, ValueError):  # missing or damaged
            return _REVISION
        return commit if _SHA1.fullmatch(commit) else _REVISION

    def download(self, reporter: Reporter) -> None:
        name, location, etag, commit = self._metadata()
        blob = self._folder / "blobs" / etag
        if not is_file(blob):
            digest = etag if _SHA256.fullmatch(etag) else ""
            download(location, blob, digest, partial(_shown, reporter, f"{self._repository}/{name}"))
        self._enter(blob, commit, name)

    def _metadata(self) -> tuple[str, str, str, str]:
        """(name, address of the content, digest, commit) of the first file that the repository has. Raises
        DownloadError."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import EntryNotFoundError

        check_connection(hf_hub_url(self._repository, self._names[0]))
        for name in self._names:
            try:
                found = get_hf_file_metadata(hf_hub_url(self._repository, name), timeout=SILENCE_S)
            except EntryNotFoundError:
                continue
            except Exception as error:  # the hub's own and its client's, which differ between its versions
                raise DownloadError(" ".join(str(error).split()) or type(error).__name__) from None
            etag, commit = found.etag or "", found.commit_hash or ""
            if not (_SHA256.fullmatch(etag) or _SHA1.fullmatch(etag)) or not _SHA1.fullmatch(commit):
                raise DownloadError(f"the server does not say the digest and the commit of {name}")
            return name, found.location, etag, commit
        raise DownloadError(f"{self._repository} has no {' or '.join(self._names)}")

    def _enter(self, blob: Path, commit: str, name: str) -> None:
        """Enter a fetched file in the cache as the hub's library does: a link in the commit's folder."""
        link = self._folder / "snapshots" / commit / name
        reference = self._folder / "refs" / _REVISION
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            reference.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):  # another process was faster
                link.symlink_to(Path("../../blobs") / blob.name)
            reference.write_text(commit)
        except OSError as error:
            raise DownloadError(f"{link}: cannot be made: {error.strerror or error}") from None


@contextlib.contextmanager
def _shown(reporter: Reporter, name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a download's progress. total: bytes, 0 where the server does not say."""
    reporter.line(f"fetching {name}, {in_bytes(total)}" if total else f"fetching {name}")
    with reporter.task(f"fetching {name}", total, of_bytes=True) as task:
        yield task.update
