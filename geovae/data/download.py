"""Original files over HTTP: partial files are continued, failed requests repeated, whole files checked and renamed.

Connections, redirects and the proxies of the environment are those of `requests`. It cannot continue a partial file,
nor can pooch and torchvision, and CelebA has 1.4 GB.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit, urlunsplit

from geovae.files import flush_to_disk, hash_file, lock_file

if TYPE_CHECKING:
    from requests import Response

ATTEMPTS = 4  # that bring no byte, one after another
PAUSE = 1.0  # seconds after the first of them, doubled for each further one
TIMEOUT = (10.0, 60.0)  # seconds to connect, and without a byte
BLOCK = 1 << 20


@dataclass(frozen=True)
class Original:
    """A published file.

    Attributes:
        name: of the file.
        checksum: `md5:` or `sha256:` and the hex digits.
        addresses: where it is, tried one after another.
    """

    name: str
    checksum: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Originals:
    """The files of an original distribution, and the page where a person finds them."""

    page: str
    files: tuple[Original, ...]

    def md5(self) -> dict[str, str]:
        """Return the md5 of each file, by its name."""
        return {file.name: file.checksum.removeprefix("md5:") for file in self.files}

    def at(self, mirror: str) -> "Originals":
        """Return the same files at a mirror: the address of their folder, or that of a file itself."""
        parts = urlsplit(mirror)

        def address(name: str) -> str:
            path = parts.path if parts.path.endswith(f"/{name}") else f"{parts.path.rstrip('/')}/{name}"
            return urlunsplit(parts._replace(path=path))

        return replace(self, files=tuple(replace(file, addresses=(address(file.name),)) for file in self.files))


def list_originals(page: str, md5: Mapping[str, str], hosts: Sequence[str]) -> Originals:
    """Return the files that each of the `hosts`, addresses of folders, has under the same names."""
    return Originals(
        page, tuple(Original(name, f"md5:{value}", tuple(host + name for host in hosts)) for name, value in md5.items())
    )


def is_address(source: str) -> bool:
    """Return whether `source` is an address of the web, not a path.

    Raises:
        ValueError: if it is an address of another kind.
    """
    scheme, found, _ = source.partition("://")
    if found and scheme.lower() not in ("http", "https"):
        raise ValueError(f"`source` must be a path or an address with http or https, got {source!r}")
    return bool(found)


def fetch(originals: Originals, folder: Path, *, progress: bool = True) -> Path:
    """Fetch the files that `folder` does not have, check all, and return the folder.

    Raises:
        FileNotFoundError: if no address gives a file; it says what to fetch by hand.
        FileExistsError: if another process fetches the same file.
        ValueError: if a file that is there has another checksum.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(originals.files):
        path = folder / file.name
        if path.exists():
            if (found := digest(path, file.checksum)) != file.checksum:
                raise ValueError(
                    f"`{path}` has {found}, published is {file.checksum}: delete it to fetch it again, or give its "
                    "folder as `source`"
                )
            continue
        reasons = []
        for address in file.addresses:
            reasons.append(_try_address(file, path, address, progress=progress))
            if not reasons[-1]:
                break
        else:
            names = ", ".join(other.name for other in originals.files[number:])
            raise FileNotFoundError(
                f"`{file.name}` cannot be fetched ({'; '.join(reasons)}): fetch {names} by hand from {originals.page} "
                f"into `{folder}` and try again, or give another folder or a mirror's address as `source`"
            )
    return folder


def digest(path: Path, like: str) -> str:
    """Return the checksum of a file in the form of another: `md5:...` or `sha256:...`."""
    algorithm = like.partition(":")[0]
    return f"{algorithm}:{hash_file(path, algorithm)}"


def _try_address(file: Original, path: Path, address: str, *, progress: bool) -> str:
    """Put the file at `address` in place, or return why that is not possible."""
    try:
        with _partial_file(path) as part:
            if path.exists():  # another process has finished it since
                return ""
            continued = part.seek(0, 2) > 0
            _receive_all(part, address, file.name, progress=progress)
            found = digest(Path(part.name), file.checksum)
            if found == file.checksum:
                flush_to_disk(Path(part.name))
                Path(part.name).replace(path)
                return ""
            part.truncate(0)
    except Unavailable as error:
        return f"{without_secrets(address)}: {error}"
    if continued:  # the earlier part may have been of another file
        return _try_address(file, path, address, progress=progress)
    return f"{without_secrets(address)}: its file has {found}, published is {file.checksum}"


class Unavailable(Exception):
    """An address does not give the file."""


class Interrupted(Exception):
    """A request failed in a way that another attempt may mend."""


@contextmanager
def _partial_file(path: Path) -> Iterator[BinaryIO]:
    """Open the partial file beside `path`, for one process at a time; it stays unless it is renamed or empty."""
    with path.with_name(f"{path.name}.part").open("a+b") as part:
        try:
            lock_file(part)
        except BlockingIOError:
            raise FileExistsError(f"another process is fetching `{path}`: wait until it is there") from None
        try:
            yield part
        finally:
            if not part.seek(0, 2):
                Path(part.name).unlink(missing_ok=True)


def _receive_all(part: BinaryIO, address: str, name: str, *, progress: bool) -> None:
    """Append to the partial file until it is whole, through failures, as long as they bring it further."""
    import requests
    from urllib3.exceptions import HTTPError

    furthest, failures = part.seek(0, 2), 0
    while True:
        try:
            return _receive(part, address, name, progress=progress)
        except (Interrupted, HTTPError, requests.ConnectionError, requests.Timeout) as error:
            reached = part.seek(0, 2)
            failures = 0 if reached > furthest else failures + 1
            furthest = max(furthest, reached)
            if failures >= ATTEMPTS:
                raise Unavailable(_describe(error)) from error
            time.sleep(PAUSE * 2 ** max(failures - 1, 0))
        except requests.RequestException as error:  # an address that cannot be right, too many redirects
            raise Unavailable(_describe(error)) from error


def _receive(part: BinaryIO, address: str, name: str, *, progress: bool) -> None:
    """Request what the partial file lacks, and append it."""
    import requests
    from tqdm import tqdm

    held = part.seek(0, 2)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={held}-"} if held else {})
    with requests.get(address, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if not _is_more_to_come(response, part):
            return
        start = part.seek(0, 2)
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else None
        with tqdm(desc=name, total=total, initial=start, unit="B", unit_scale=True, disable=not progress) as bar:
            for block in response.raw.stream(BLOCK, decode_content=False):  # the bytes as they are stored
                part.write(block)
                bar.update(len(block))
        part.flush()
    if total is not None and part.tell() != total:
        raise Interrupted(f"the download ended after {part.tell()} of {total} bytes")


def _is_more_to_come(response: "Response", part: BinaryIO) -> bool:
    """Judge an answer: leave in the partial file what it continues, and return whether anything follows.

    Raises:
        Interrupted: if another attempt may succeed.
        Unavailable: if not.
    """
    held, code = part.tell(), response.status_code
    given = response.headers.get("Content-Range", "")  # "bytes 5-9/10", or "bytes */10" with 416
    if code == 416 and given.endswith(f"*/{held}"):
        return False  # it was whole
    if code == 416 or (code == 206 and not given.startswith(f"bytes {held}-")):
        part.truncate(0)
        raise Interrupted(f"it answers {code} {given} for a part of {held} bytes")
    if code in (408, 429) or code >= 500:
        raise Interrupted(f"it answers {code} {response.reason}")
    if code not in (200, 206):
        raise Unavailable(f"it answers {code} {response.reason}")
    if "text/html" in response.headers.get("Content-Type", ""):
        raise Unavailable("it answers with a web page instead of the file")
    if code == 200:
        part.truncate(0)
    return True


def _describe(error: Exception) -> str:
    """Return why a request failed, without the pool and the address before it."""
    cause = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
    cause = getattr(cause, "reason", cause)
    text = str(cause.args[0] if cause.args else type(cause).__name__)
    return text.partition("): ")[2] or text


def without_secrets(address: str) -> str:
    """Return an address without user, password and query."""
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
