"""Zips, tars and directories of files: what is read, and what is refused before anything is done with it."""

import gzip
import io
import os
import random
import stat
import tarfile
import zipfile

import pytest

from diffplast.data import DataError
from diffplast.data.archives import members

FILES = {"set/a/1.png": b"one", "set/a/2.png": b"two" * 1000, "set/b-c/1.png": b"", "set/b/1.png": bytes(range(256))}


def write_zip(path, entries):
    """entries: content by name, or by ZipInfo."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content, compress_type=zipfile.ZIP_DEFLATED)
    return path


def write_tar(path, entries):
    """entries: content by name, or TarInfo without content by name."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in entries.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def write_directory(path, entries):
    for name, content in entries.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


WRITERS = {"zip": write_zip, "tar": write_tar, "directory": write_directory}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_files_are_read_by_name_without_what_file_managers_leave(write, tmp_path):
    junk = {"set/.DS_Store": b"x", "__MACOSX/set/a/._1.png": b"x", "set/a/Thumbs.db": b"x", ".git/config": b"x"}
    path = write(tmp_path / "packed", FILES | junk)
    assert list(members(path)) == list(FILES.items())


def test_a_zip_is_read_by_name_in_whatever_order_it_was_packed(tmp_path):
    path = write_zip(tmp_path / "packed.zip", dict(reversed(FILES.items())))
    assert list(members(path)) == list(FILES.items())


def link(kind, name="set/link.png", target="/etc/passwd"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return {name: info}


def zip_link(name="set/link.png"):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return {info: "/etc/passwd"}


OUTSIDE = ("../evil.png", "set/../../evil.png", "/evil.png", "..\\evil.png", "C:\\evil.png")
HARMFUL = {
    **{f"zip with {name}": (write_zip, {name: b"x"}, "leads out of the archive") for name in OUTSIDE},
    **{f"tar with {name}": (write_tar, {name: b"x"}, "leads out of the archive") for name in OUTSIDE},
    "zip with a symlink": (write_zip, zip_link(), "link or a special file"),
    "tar with a symlink": (write_tar, link(tarfile.SYMTYPE), "link or a special file"),
    "tar with a hard link": (write_tar, link(tarfile.LNKTYPE), "link or a special file"),
    "tar with a device": (write_tar, link(tarfile.CHRTYPE), "link or a special file"),
    "zip bomb": (write_zip, {"set/0.png": bytes(10**7)}, "more than 100 times its size"),
    "zip bomb of many": (write_zip, {f"set/{i}.png": bytes(10**5) for i in range(100)}, "more than 100 times its size"),
    "tar bomb": (write_tar, {"set/0.png": bytes(10**7)}, "more than 100 times its size"),
    "tar bomb of many": (write_tar, {f"set/{i}.png": bytes(10**5) for i in range(100)}, "more than 100 times its size"),
    "tar bomb in a hidden file": (write_tar, {"set/.0": bytes(10**7)}, "more than 100 times its size"),
}


@pytest.mark.parametrize("write, entries, message", HARMFUL.values(), ids=HARMFUL)
def test_what_could_do_harm_is_refused_and_nothing_is_written(write, entries, message, tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    path = write(inner / "packed", FILES | entries)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=message) as error:
        list(members(path))
    assert str(path) in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before
    assert not os.path.exists("/evil.png")


def test_a_file_too_large_for_an_image_is_refused(tmp_path):
    (tmp_path / "film.png").write_bytes(b"")
    os.truncate(tmp_path / "film.png", 2**28 + 1)
    with pytest.raises(DataError, match=r"film\.png has 268,435,457 bytes"):
        list(members(tmp_path))


def test_special_files_in_a_directory_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png is a link to nowhere or a special file"):
        list(members(tmp_path))


def encrypted(path):
    content = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags, in both headers of the first file
        content[content.index(signature) + place] |= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def web_page(path):
    path.write_text("<!DOCTYPE html><title>Please log in</title>")


def not_a_tar(path):
    path.write_bytes(gzip.compress(b"x" * 100))


DAMAGE = {
    "zip with a password": (write_zip, encrypted),
    "zip cut": (write_zip, cut),
    "tar cut": (write_tar, cut),
    "web page": (write_zip, web_page),
    "gzip of something": (write_tar, not_a_tar),
    "empty": (write_zip, lambda path: path.write_bytes(b"")),
}


@pytest.mark.parametrize("write, damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_archive_is_said(write, damage, tmp_path):
    path = write(tmp_path / "packed", FILES)
    damage(path)
    with pytest.raises(DataError, match="packed: damaged, or not readable"):
        list(members(path))


@pytest.mark.parametrize("write", [write_zip, write_tar], ids=["zip", "tar"])
def test_flipped_bits_give_an_error_of_ours_or_no_wrong_content(write, tmp_path):
    path = write(tmp_path / "packed", FILES)
    good = path.read_bytes()
    rng = random.Random(0)
    refused = 0
    for _ in range(500):
        bad = bytearray(good)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        try:
            contents = [content for _, content in members(path)]
        except DataError:
            refused += 1
        else:
            assert all(content in FILES.values() for content in contents)
    assert refused > 100


def test_a_missing_path_is_said(tmp_path):
    with pytest.raises(DataError, match="nowhere: there is no such file or directory"):
        list(members(tmp_path / "nowhere"))
