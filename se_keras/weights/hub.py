"""Download published files, check them, and explain failures.

Files of the Hugging Face hub go through `huggingface_hub`, with its cache, `HF_ENDPOINT`,
`HF_HUB_OFFLINE` and progress bar. Files of a release go through `keras.utils.get_file` into
`$KERAS_HOME/se_keras`, which gets only files with the right hash. Damaged files are deleted.
"""

import hashlib
import json
import os
import re
import struct
import tempfile
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from se_keras.support.archives import unpack_single_file
from se_keras.support.errors import InputError, in_one_line
from se_keras.weights.hub_config import read_config, read_json_object
from se_keras.weights.readers.sharded import read_index

WEIGHTS_FILE = "model.safetensors"
INDEX_SUFFIX = ".index.json"  # the index of weights that are split over several files
USUAL_FILES = (WEIGHTS_FILE, WEIGHTS_FILE + INDEX_SUFFIX, "pytorch_model.bin")
CONFIG_FILE = "config.json"
HUB_ADDRESS = re.compile(
    r"hf://(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^@/]+))?(/(?P<file>[^@]+))?", re.ASCII
)
SCHEMES = ("hf://", "https://", "http://")
# A hash at the end of an address, as pip writes it: `#sha256=ce0d4300`.
HASH = re.compile(r"(?P<algorithm>sha256|md5|sha1(?==[0-9a-f]{40}$))=(?P<digits>[0-9a-f]{8,64})")
ZIP = ".zip"
SHA256 = re.compile("[0-9a-f]{64}")
# huggingface_hub names folders and files of its cache after these headers.
NAMING_HEADERS = ("X-Repo-Commit", "X-Linked-Etag", "ETag", "X-Xet-Hash")
NAME_IN_CACHE = re.compile(r'(W/)?"?[0-9A-Za-z][0-9A-Za-z._+=-]{0,199}"?')


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file of a repository on the Hugging Face hub.

    Attributes:
        repo: owner and name, with a slash between them.
        revision: branch, tag or commit; `None` for the main branch.
        file: path in the repository; `None` for the first of `USUAL_FILES` that exists.
    """

    repo: str
    revision: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"hf://{self.repo}{revision}" + (f"/{self.file}" if self.file else "")


@dataclass(frozen=True, kw_only=True)
class ReleaseFile:
    """A file on the web, with its hash.

    Attributes:
        address: address of the file.
        algorithm: algorithm of the hash.
        digits: all digits of the hash, or the first ones.
    """

    address: str
    algorithm: str
    digits: str

    def __str__(self) -> str:
        return f"{self.address}#{self.algorithm}={self.digits}"


PublishedFile = HubFile | ReleaseFile


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A file on this machine.

    Attributes:
        path: path of the file.
        config: content of `config.json` in the same repository; `None` if there is none.
    """

    path: Path
    config: dict[str, Any] | None = None


def parse_address(text: str) -> PublishedFile | None:
    """Return the published file that an address names; `None` if the text is not an address.

    Args:
        text: `hf://owner/repo`, `hf://owner/repo@revision/file` (the default file is
            `model.safetensors`), or an `https://` address followed by the file's hash:
            `#sha256=...` (the first 8 digits are enough), `#sha1=...` with all digits, or
            `#md5=...`. A `.zip` archive must hold one file, and the hash is the hash of that file.

    Raises:
        InputError: if the address is incomplete.

    Example:

    >>> from se_keras.weights.hub import parse_address
    >>> parse_address("hf://timm/seresnet50.a1_in1k@main").revision
    'main'
    """
    if not text.startswith(SCHEMES):
        return None
    return _parse_hub(text) if text.startswith("hf://") else _parse_release(text)


def _parse_hub(text: str) -> HubFile:
    match = HUB_ADDRESS.fullmatch(text)
    if match is None or ".." in PurePosixPath(match["file"] or "").parts:
        raise InputError(
            f"the source must be hf://owner/repo, hf://owner/repo@revision or "
            f"hf://owner/repo@revision/file, got {text}."
        )
    return HubFile(**match.groupdict())


def _parse_release(text: str) -> ReleaseFile:
    address, _, fragment = text.partition("#")
    expected = HASH.fullmatch(fragment)
    if not _file_name(address) or expected is None:
        raise InputError(
            f"the source must be an address with a file's name and its hash, such as "
            f"https://.../weights.pth#sha256=ce0d4300, got {text}."
        )
    return ReleaseFile(address=address, **expected.groupdict())


def _file_name(address: str) -> str:
    try:
        name = PurePosixPath(urllib.parse.urlsplit(address).path).name
    except ValueError:  # an unclosed bracket
        return ""
    return "" if name == ".." else name.removesuffix(ZIP)


def fetch(file: PublishedFile) -> Fetched:
    """Download a published file, unless it is on this machine already.

    Raises:
        InputError: if there is no connection, no such file, no access, no space or no permission,
            or if the file is damaged or differs from the published one. The message names the
            source and the remedy.
    """
    return _from_hub(file) if isinstance(file, HubFile) else Fetched(path=_from_release(file))


def fetch_config(repository: HubFile) -> dict[str, Any] | None:
    """Download the `config.json` of a repository without its weights; `None` if it has none.

    Raises:
        InputError: as `fetch` does.
    """
    return _config(str(repository), repository.repo, repository.revision)


def cached_config(repository: HubFile) -> dict[str, Any] | None:
    """Return the `config.json` that an earlier download left, without any connection.

    Raises:
        InputError: if it is damaged.
    """
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repository.repo, CONFIG_FILE, revision=repository.revision)
    if not isinstance(path, str):
        return None
    _refuse_outside(Path(path), _cache_folder(repository.repo), str(repository))
    return _read_config(str(repository), Path(path))


# --- the hub -------------------------------------------------------------------------------------


def _from_hub(wanted: HubFile) -> Fetched:
    source = str(wanted)
    path, file = _download_weights(wanted)
    _refuse_damaged(path, source)
    # cache/snapshots/COMMIT/file: read the config from the same commit as the weights.
    commit = path.parents[len(file.parts) - 1].name
    if file.name.endswith(INDEX_SUFFIX):
        for shard in sorted(set(read_index(path).values())):
            _refuse_damaged(
                _download(source, wanted.repo, commit, str(file.with_name(shard))), source
            )
    return Fetched(path=path, config=_config(source, wanted.repo, commit))


def _download_weights(wanted: HubFile) -> tuple[Path, PurePosixPath]:
    """Download the wanted file, or the first of `USUAL_FILES` that the repository has."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import RemoteEntryNotFoundError

    files = [wanted.file] if wanted.file else [*USUAL_FILES]
    failures = []
    while files:
        file = files.pop(0)
        try:
            path = _download(str(wanted), wanted.repo, wanted.revision, file)
            return path, PurePosixPath(file)
        except InputError as error:
            failures.append(error)
            known = [
                try_to_load_from_cache(wanted.repo, f, revision=wanted.revision) for f in files
            ]
            is_here = any(isinstance(path, str) for path in known)
            if not isinstance(error.__cause__, RemoteEntryNotFoundError) and not is_here:
                break
    raise failures[0]


def _config(source: str, repo: str, revision: str | None) -> dict[str, Any] | None:
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        path = _download(source, repo, revision, CONFIG_FILE)
    except InputError as error:
        missing = isinstance(error.__cause__, RemoteEntryNotFoundError)
        if missing or _is_known_missing(repo, revision):
            return None
        raise
    return _read_config(source, path)


def _read_config(source: str, path: Path) -> dict[str, Any]:
    try:
        content = read_json_object(path, source)
        read_config(content, source)
    except InputError:
        _remove(path)  # huggingface_hub would not ask for this commit again
        raise
    except ValueError as error:
        _remove(path)
        raise InputError(
            _damage(source, f"its {CONFIG_FILE} is not valid JSON: {error}")
        ) from error
    return content


def _is_known_missing(repo: str, revision: str | None) -> bool:
    """Return whether the cache records that the commit has no config."""
    from huggingface_hub import try_to_load_from_cache

    noted = try_to_load_from_cache(repo, CONFIG_FILE, revision=revision)
    return noted is not None and not isinstance(noted, str)


def _download(source: str, repo: str, revision: str | None, file: str) -> Path:
    path, told = _ask(source, repo, revision, file)
    # huggingface_hub does not check its cached files of a commit; another hub may have sent them.
    if path.is_symlink() and told not in (None, path.resolve().name):
        _remove(path)
        path, _ = _ask(source, repo, revision, file)
    return path


def _ask(source: str, repo: str, revision: str | None, file: str) -> tuple[Path, str | None]:
    """Return the file in the cache, and the name that the hub now gives its content."""
    from huggingface_hub import hf_hub_download

    try:
        with _refuse_answers_that_are_paths() as names:
            path = Path(hf_hub_download(repo, file, revision=revision))
    except Exception as error:  # its type depends on the version of huggingface_hub
        raise InputError(f"can't get {source}: {_hub_reason(error, file).rstrip('.')}.") from error
    _refuse_outside(path, _cache_folder(repo), source)
    return path, names[-1] if names else None


@contextmanager
def _refuse_answers_that_are_paths() -> Iterator[list[str]]:
    """Check the headers of a hub before huggingface_hub uses them as file names.

    A header such as `/home/me/thesis.txt` or `../../x` would name a file outside of the cache.
    """
    from huggingface_hub import get_session

    session = get_session()
    before = session.event_hooks
    names: list[str] = []

    def look(response: Any) -> None:
        if response.request.method == "HEAD":
            _refuse_paths(response)
            names.extend(_name_of_content(response))

    session.event_hooks = {**before, "response": [*before.get("response", ()), look]}
    try:
        yield names
    finally:
        session.event_hooks = before


def _name_of_content(response: Any) -> list[str]:
    """Return huggingface_hub's name for the content of a file; nothing if the hub refuses."""
    told = response.headers.get("X-Linked-Etag") or response.headers.get("ETag")
    return [told.removeprefix("W/").strip('"')] if told and response.status_code < 400 else []


def _refuse_paths(response: Any) -> None:
    for header in NAMING_HEADERS:
        answer = response.headers.get(header)
        if answer is not None and not NAME_IN_CACHE.fullmatch(answer):
            raise InputError(
                f"the hub's header {header} must be a file name, got {answer[:200]!r}."
            )


def _cache_folder(repo: str) -> Path:
    """Return the folder of a repository in huggingface_hub's cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"


def _refuse_outside(path: Path, folder: Path, source: str) -> None:
    """Refuse a link that leads out of the cache: its target is neither read nor deleted."""
    target = path.resolve()
    if not any(target.is_relative_to(allowed.resolve()) for allowed in (folder, folder.parent)):
        raise InputError(
            f"{source}: {path} is a link out of the cache, to {target}; delete the link."
        )


def _hub_reason(error: Exception, file: str) -> str:
    from huggingface_hub import constants, errors

    answers = [getattr(e, "response", None) for e in (error, error.__cause__)]
    status = next((answer.status_code for answer in answers if answer is not None), None)
    if isinstance(error, errors.GatedRepoError) or status == 403:
        return (
            "its owner gives access on request: ask for it on the repository's page, then run "
            "`hf auth login` or set HF_TOKEN"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return "the repository has no such revision"
    if isinstance(error, errors.RepositoryNotFoundError) or status == 401:
        return (
            f"there is no such repository on {constants.ENDPOINT}, or it is private: check the "
            "name or run `hf auth login`"
        )
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"the repository has no file {file}"
    if isinstance(error, errors.HFValidationError | InputError):
        return in_one_line(error)
    if isinstance(error, errors.LocalEntryNotFoundError):
        return _explain_unreached(error.__cause__ or error)
    return _failure(error, "HF_HOME")


def _explain_unreached(cause: BaseException) -> str:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return (
            f"it is not in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE is set: unset it "
            "to download"
        )
    return (
        f"it is not in the cache {constants.HF_HUB_CACHE}, and the download from "
        f"{constants.ENDPOINT} failed ({in_one_line(cause)}): check the connection and HF_ENDPOINT"
    )


# --- files of a release --------------------------------------------------------------------------


def _from_release(wanted: ReleaseFile) -> Path:
    # The folder of keras.utils.get_file, which has no function that returns it.
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    path = home / "se_keras" / wanted.digits / _file_name(wanted.address)
    try:
        if not path.is_file():
            _download_release(wanted.address, path)
    except InputError:
        raise
    except Exception as error:  # get_file raises a bare Exception when the address fails
        raise InputError(
            f"can't get {wanted}: {_failure(error, 'KERAS_HOME').rstrip('.')}."
        ) from error
    _refuse_outside(path, path.parent, str(wanted))
    _refuse_other_hash(path, str(wanted), wanted.algorithm, wanted.digits)
    return path


def _download_release(address: str, path: Path) -> None:
    import keras  # here, so that parsing a name does not start TensorFlow

    path.parent.mkdir(parents=True, exist_ok=True)
    # Download to a temporary name and rename: an interrupted download never looks whole.
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent) as partial:
        zipped = address.endswith(ZIP)
        name = path.name + (ZIP if zipped else "")
        file = Path(keras.utils.get_file(name, address, cache_dir=partial))
        os.replace(_unpack(file, address) if zipped else file, path)


def _unpack(archive: Path, address: str) -> Path:
    page = _web_page(archive)
    if page:
        raise InputError(_damage(address, page))
    file = archive.with_suffix("")
    unpack_single_file(archive, file.suffix, file, called=address)
    return file


def _refuse_other_hash(path: Path, source: str, algorithm: str, digits: str) -> None:
    found = _hash(path, algorithm)
    if not found.startswith(digits):
        damage = _web_page(path) or f"its {algorithm} is {found}, not {digits}"
        path.unlink()
        raise InputError(_damage(source, damage))


# --- damage ---------------------------------------------------------------------------------------


def _refuse_damaged(path: Path, source: str) -> None:
    damage = _web_page(path) or _truncation(path) or _other_content(path)
    if damage:
        _remove(path)
        raise InputError(_damage(source, damage))


def _web_page(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "it is a web page, perhaps from a proxy or a login page"
    return None


def _truncation(path: Path) -> str | None:
    """Return an error if a safetensors file does not have the length that its header states."""
    if path.suffix != ".safetensors":
        return None
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length) if length < size else b"")
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        end = 8 + length + max((entry["data_offsets"][1] for entry in tensors), default=0)
    except (struct.error, ValueError, AttributeError, KeyError, TypeError, IndexError):
        return "it has no safetensors header"
    return None if end == size else f"it has {size:,} bytes in place of the {end:,} in its header"


def _other_content(path: Path) -> str | None:
    """Return an error if a cached file differs from its hash: the hub names large files by it."""
    name = path.resolve().name
    if not SHA256.fullmatch(name) or _hash(path, "sha256") == name:
        return None
    return "its sha256 differs from the published file's"


def _hash(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _remove(path: Path) -> None:
    """Delete a file of the hub's cache: the link and its target."""
    target = path.resolve()
    path.unlink(missing_ok=True)
    target.unlink(missing_ok=True)


def _damage(source: str, damage: str) -> str:
    return f"{source}: the download was damaged and has been deleted ({damage}); try again."


def _failure(error: Exception, variable: str) -> str:
    """Say what failed: this machine (disk, permission) or the connection."""
    connection = isinstance(error, ConnectionError | TimeoutError)
    if isinstance(error, OSError) and error.strerror and not connection:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{where}: free some space, or set {variable} to another folder"
    return f"the download failed ({in_one_line(error)}): check the connection and try again"
