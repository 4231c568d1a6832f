"""Files of a zip, of a tar.gz or of a directory, read one after the other. Nothing is ever unpacked to disk."""

import gzip
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from diffplast.data.formats import DataError

# Images hardly shrink, so an archive that grows more than this is no archive of images but one made to do harm.
RATIO = 100
MEMBER_BYTES = 2**28  # of one file, which is held in memory
DAMAGE = (  # what the readers raise for an archive that they cannot make sense of
    OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error, RuntimeError,
    UnicodeDecodeError, IndexError,
)  # fmt: skip


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name (with /) and content of every file; by name, but those of a tar.gz in its own order.

    Left out: hidden files, and what file managers leave (`__MACOSX`, `Thumbs.db`, `desktop.ini`).
    Damage may only show after the last file, so use nothing before the iteration has ended.
    Raises DataError where the path is missing or cannot be read, for an archive that is damaged, and for one with
    links, with names that lead out of it (as ../name), or that grows out of all proportion.
    """
    if not path.exists():
        raise DataError(f"{path}: there is no such file or directory")
    if path.is_dir():
        read = _directory
    else:
        read = _zip if zipfile.is_zipfile(path) else _tar
    try:
        yield from read(path)
    except DAMAGE as problem:
        raise DataError(f"{path}: damaged, or not readable as a directory, zip or tar.gz: {problem}") from problem


def _directory(path: Path) -> Iterator[tuple[str, bytes]]:
    files = [Path(folder, name) for folder, _, names in os.walk(path, onerror=_refuse) for name in names]
    for name, file in sorted((file.relative_to(path).as_posix(), file) for file in files):
        if _wanted(name):
            if not file.is_file():
                raise DataError(f"{path}: {name} is a link to nowhere or a special file. Remove it.")
            _check_size(path, name, file.stat().st_size)
            yield name, file.read_bytes()


def _refuse(problem: OSError) -> None:
    raise problem


def _zip(path: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        if sum(info.file_size for info in infos) > _limit(path):
            raise _out_of_proportion(path)
        for info in infos:
            _check_name(path, info.filename, is_link=stat.S_ISLNK(info.external_attr >> 16))
            _check_size(path, info.filename, info.file_size)
        for info in sorted(infos, key=lambda info: info.filename):
            if _wanted(info.filename):
                yield info.filename, archive.read(info)  # never more than file_size bytes


def _tar(path: Path) -> Iterator[tuple[str, bytes]]:
    with gzip.open(path) as unpacked:
        content = _Bounded(unpacked, path)
        with tarfile.open(fileobj=content, mode="r|") as archive:
            for info in archive:
                _check_name(path, info.name, is_link=not (info.isfile() or info.isdir()))
                if info.isfile() and _wanted(info.name):
                    _check_size(path, info.name, info.size)
                    yield info.name, archive.extractfile(info).read()
        while content.read(2**20):  # the checksum of the whole comes at the very end
            pass


class _Bounded:
    """A stream that refuses to give more than is in proportion to the archive."""

    def __init__(self, stream, path: Path):
        self.stream, self.path, self.left = stream, path, _limit(path)

    def read(self, size: int) -> bytes:
        """At most `size` bytes."""
        content = self.stream.read(min(size, self.left + 1))
        self.left -= len(content)
        if self.left < 0:
            raise _out_of_proportion(self.path)
        return content


def _limit(path: Path) -> int:
    return RATIO * path.stat().st_size


def _out_of_proportion(path: Path) -> DataError:
    return DataError(
        f"{path}: unpacked, it would be more than {RATIO} times its size, as images hardly ever are. Get it anew from "
        "a source that you trust; images of your own can be given as a directory."
    )


def _check_name(path: Path, name: str, is_link: bool) -> None:
    if is_link:
        raise DataError(f"{path}: {name} is a link or a special file. Pack the files themselves.")
    windows = PureWindowsPath(name)  # knows both kinds of slashes, and drives
    if windows.anchor or ".." in windows.parts:
        raise DataError(f"{path}: the name {name} leads out of the archive. Get it anew from a source that you trust.")


def _check_size(path: Path, name: str, size: int) -> None:
    if size > MEMBER_BYTES:
        raise DataError(f"{path}: {name} has {size:,} bytes, more than the {MEMBER_BYTES:,} that one image may have")


def _wanted(name: str) -> bool:
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and PurePosixPath(name).name.lower() not in ("thumbs.db", "desktop.ini")
