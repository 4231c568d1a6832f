"""Files of a zip, of a tar.gz or of a directory, read one after the other. Nothing is ever unpacked to disk."""

import gzip
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

from diffplast.core.dataset import DataError

# Photographs hardly shrink, but line drawings may a thousand times. An archive that grows by more than the one and to
# more than the other is no archive of pictures but one made to do harm.
RATIO = 100
UNPACKED_BYTES = 2**33
MEMBER_BYTES = 2**28  # of one file, which is held in memory
LEFT_OUT = ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "$recycle.bin", "lost+found")
DAMAGE = (  # what the readers raise for an archive that they cannot make sense of
    OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error, RuntimeError,
    UnicodeDecodeError, IndexError,
)  # fmt: skip


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name (with /, however it was packed) and content of every file; by name, but those of a tar.gz in its own order.

    Left out: hidden files, and what file managers leave (see `LEFT_OUT`). Links in a directory are followed.
    Damage may only show after the last file, so use nothing before the iteration has ended.
    Raises DataError where the path is missing or cannot be read, for a directory with a link to nowhere or to a folder
    that it lies in, for an archive that is damaged, and for one with links, with names that lead out of it (as
    ../name), or that grows out of all proportion.
    """
    if not path.exists():
        looked = "" if path.is_absolute() else f" (looked for it in {Path.cwd()})"
        raise DataError(f"{path}: there is no such file or directory{looked}")
    if path.is_dir():
        read = _directory
    else:
        read = _zip if zipfile.is_zipfile(path) else _tar
    try:
        yield from read(path)
    except DAMAGE as problem:
        raise DataError(f"{path}: damaged, or not readable as a directory, zip or tar.gz: {problem}") from problem


def _directory(path: Path) -> Iterator[tuple[str, bytes]]:
    for name, file in sorted(_files(path, "", ())):
        if not file.is_file():
            raise DataError(f"{path}: {name} is a link to nowhere or a special file. Remove it.")
        _check_size(path, name, file.stat().st_size)
        yield name, file.read_bytes()


def _files(folder: Path, name: str, above: tuple[Path, ...]) -> Iterator[tuple[str, Path]]:
    """All wanted files with their names. name: of the folder, with / at the end; above: where those above it lie."""
    here = folder.resolve()
    if here in above:
        raise DataError(f"{folder}: a link to a folder that it lies in. Remove it.")
    for entry in folder.iterdir():
        # Names are bytes; as UTF-8 they are the same in every locale, and can always be printed.
        entry_name = name + _plain(os.fsencode(entry.name).decode("utf-8", "replace"))
        if _wanted(entry_name):
            if entry.is_dir():
                yield from _files(entry, f"{entry_name}/", (*above, here))
            else:
                yield entry_name, entry


def _zip(path: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if not info.filename.endswith(("/", "\\"))]
        if sum(info.file_size for info in infos) > _limit(path):
            raise _out_of_proportion(path)
        for info in infos:
            _check_name(path, info.filename, is_link=stat.S_ISLNK(info.external_attr >> 16))
            _check_size(path, info.filename, info.file_size)
        for name, info in sorted(((_plain(info.filename), info) for info in infos), key=lambda pair: pair[0]):
            if _wanted(name):
                yield name, archive.read(info)  # never more than file_size bytes


def _tar(path: Path) -> Iterator[tuple[str, bytes]]:
    with gzip.open(path) as unpacked:
        content = _Bounded(unpacked, path)
        with tarfile.open(fileobj=content, mode="r|") as archive:
            for info in archive:
                _check_name(path, info.name, is_link=not (info.isfile() or info.isdir()))
                name = _plain(info.name)
                if info.isfile() and _wanted(name):
                    _check_size(path, name, info.size)
                    yield name, archive.extractfile(info).read()
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
    return max(RATIO * path.stat().st_size, UNPACKED_BYTES)


def _out_of_proportion(path: Path) -> DataError:
    return DataError(
        f"{path}: unpacked, it would be more than {UNPACKED_BYTES:,} bytes and more than {RATIO} times its size, as "
        "pictures hardly ever are. If you trust it, unpack it and give the directory."
    )


def _check_name(path: Path, name: str, is_link: bool) -> None:
    if is_link:
        raise DataError(f"{path}: {name} is a link or a special file. Pack the files themselves.")
    windows = PureWindowsPath(name)  # knows both kinds of slashes, and drives
    if windows.anchor or ".." in windows.parts:
        raise DataError(f"{path}: the name {name} leads out of the archive. Get it again from a source that you trust.")


def _check_size(path: Path, name: str, size: int) -> None:
    if size > MEMBER_BYTES:
        raise DataError(f"{path}: {name} has {size:,} bytes, more than the {MEMBER_BYTES:,} that one image may have")


def _plain(name: str) -> str:
    """A name with / between its parts, and without a leading ./"""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def _wanted(name: str) -> bool:
    parts = name.lower().split("/")
    return not any(part.startswith(".") or part in LEFT_OUT for part in parts)
