"""Archives from the network or from a local path: fetched once, and only taken when their checksum is right.

Downloads are kept in `downloads/`, outside of what DVC removes before a stage. What a broken or killed download has
got so far lies beside them as *.partial, and the next attempt resumes there where the server allows it.
"""

import hashlib
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import requests
from pydantic import BaseModel, ConfigDict, Field
from tqdm import tqdm

from diffplast.core.dataset import DataError

FOLDER = Path("downloads")
ATTEMPTS = 4  # of one address, while what goes wrong may pass
WAIT_S = 2.0  # before the second attempt; doubled before each further one
TIMEOUT_S = 30.0  # without an answer or a single byte
LARGEST = 2**30  # bytes; a server that sends more does not send one of these archives


class Mirror(BaseModel):
    """Another place of an archive, tried before the official addresses.

    mirror: address (http, https) or local path; None for no other place.
    sha256: of the archive there; None where it is the official archive, byte for byte.
    """

    model_config = ConfigDict(extra="forbid")
    mirror: str | None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None


class _PlaceError(Exception):
    """Why a place does not have the archive."""


@dataclass(frozen=True)
class Place:
    """Where an archive is: address (http, https) or local path, and its checksum ("sha256:..." or "md5:...")."""

    address: str
    checksum: str

    @property
    def is_remote(self) -> bool:
        """Whether it has to be downloaded."""
        return self.address.startswith(("http://", "https://"))


def with_mirror(mirror: Mirror, official: Sequence[Place]) -> list[Place]:
    """The places to try, in order: the mirror where there is one, then the official ones."""
    if mirror.mirror is None:
        return list(official)
    checksum = official[0].checksum if mirror.sha256 is None else f"sha256:{mirror.sha256}"
    return [Place(mirror.mirror, checksum), *official]


def fetch(places: Sequence[Place], key: str) -> tuple[Path, Place]:
    """The archive, from the first place that has it whole: its local path, and that place.

    A local path is used where it is; a download already in `FOLDER` is not fetched again. Every other place is
    tried in turn, and what is wrong with it is printed.
    key: of the archive's mirror in params.yaml, for the message. Raises DataError, which says what is wrong with
    each place, and where a file cannot be written.
    """
    for place in places:
        if _is_whole(_local(place), place.checksum):
            return _local(place), place
    problems = []
    for place in places:
        try:
            if place.is_remote:
                return _download(place), place
            if not _local(place).is_file():
                looked = "" if _local(place).is_absolute() else f" (looked for it in {Path.cwd()})"
                raise _PlaceError(f"there is no such file{looked}")
            raise _PlaceError(f"its checksum is not {place.checksum}")
        except (_PlaceError, requests.RequestException) as problem:
            problems.append(f"{place.address}: {_explain(problem)}")
            if place != places[-1]:
                print(f"{problems[-1]}; trying {places[len(problems)].address}", file=sys.stderr)
    listed = "".join(f"\n  {problem}" for problem in problems)
    raise DataError(
        f"the archive was found whole in none of its places:{listed}\n"
        f"Run again when the network is better, or set {key} in params.yaml to a copy and its sha256."
    )


def _local(place: Place) -> Path:
    if not place.is_remote:
        return Path(place.address).expanduser()
    # The address is a part of the name, so that the files of two places never replace each other.
    return FOLDER / f"{hashlib.sha256(place.address.encode()).hexdigest()[:8]}-{place.address.rsplit('/', 1)[-1]}"


def _is_whole(path: Path, checksum: str) -> bool:
    algorithm, _, value = checksum.partition(":")
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest() == value


def _download(place: Place) -> Path:
    """The archive in `FOLDER`. Raises DataError where it cannot be written, else as `_retrieve`."""
    target = _local(place)
    try:
        FOLDER.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        begun = partial.exists()
        try:
            _retrieve(place, target, partial)
        except _PlaceError:
            if not begun:
                raise
            _retrieve(place, target, partial)  # what was begun may have been another file: once more, from the start
    except requests.RequestException:
        raise
    except OSError as problem:
        raise DataError(
            f"{target} cannot be written: {problem.strerror or problem}. When that is set right, run again; the "
            "download resumes where it stopped."
        ) from problem
    return target


def _retrieve(place: Place, target: Path, partial: Path) -> None:
    """Download by way of `partial`, which is gone when the file was whole but wrong.

    Raises requests.RequestException for an answer that is not whole, _PlaceError for a wrong file.
    """
    _with_retries(place.address, partial)
    if not _is_whole(partial, place.checksum):
        partial.unlink()
        raise _PlaceError(f"what comes from there is damaged or another file: its checksum is not {place.checksum}")
    os.replace(partial, target)


def _with_retries(address: str, partial: Path) -> None:
    """Fetch `address` into `partial`, again where what went wrong may pass."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _continue(address, partial)
            break
        except requests.RequestException as problem:
            if attempt == ATTEMPTS or not _may_pass(problem):
                raise
            print(f"{address}: {_explain(problem)}; trying again", file=sys.stderr)
            time.sleep(WAIT_S * 2 ** (attempt - 1))
    with partial.open("rb") as file:
        start = file.read(100).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html")):
        partial.unlink()
        raise _PlaceError("a web page came in place of the archive, perhaps one to log in or a notice")


def _continue(address: str, partial: Path) -> None:
    """Fetch what is not yet in `partial`. Raises requests.RequestException where the answer is not whole.

    Raises _PlaceError where this machine's own settings keep it from asking.
    """
    done = partial.stat().st_size if partial.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    try:
        response = requests.get(address, headers=headers, stream=True, timeout=TIMEOUT_S)
    except requests.RequestException:
        raise
    except OSError as problem:  # certificates that the environment names (REQUESTS_CA_BUNDLE) and that are not there
        raise _PlaceError(str(problem)) from None
    with response:
        if done and response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing is left to fetch; the checksum tells whether that is true
        response.raise_for_status()
        resumed = response.status_code == requests.codes.partial_content
        start = done if resumed else 0
        length = response.headers.get("Content-Length")
        size = None if length is None else start + int(length)
        progress = {"unit": "B", "unit_scale": True, "mininterval": 1}
        with (
            partial.open("ab" if resumed else "wb") as file,
            tqdm(desc=address.rsplit("/", 1)[-1], total=size, initial=start, **progress) as bar,
        ):
            for chunk in response.iter_content(2**16):
                start += len(chunk)
                if start > LARGEST:
                    file.truncate(0)
                    raise _PlaceError(f"it sends more than {LARGEST:,} bytes, which is not the archive")
                file.write(chunk)
                bar.update(len(chunk))


def _may_pass(problem: requests.RequestException) -> bool:
    if problem.response is not None:
        return problem.response.status_code >= 500 or problem.response.status_code in (408, 429)
    passing = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return isinstance(problem, passing)


def _explain(problem: Exception) -> str:
    """What went wrong, without the address and the names of classes around it."""
    if getattr(problem, "response", None) is not None:
        return f"the server answers {problem.response.status_code} {problem.response.reason}"
    cause = inner = problem
    while isinstance(inner, Exception):
        cause, inner = inner, getattr(inner, "reason", None) or (inner.args or (None,))[0]
    said = next((part for part in cause.args if isinstance(part, str)), type(cause).__name__)
    return said.rpartition("): ")[2]
