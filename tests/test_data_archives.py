"""Zips, tars and directories of files: what is read, and what is refused before anything is done with it."""

import gzip
import io
import os
import random
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from diffplast.data import DataError, archives
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


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_what_other_file_managers_leave_is_no_picture(write, tmp_path):
    junk = ("ehthumbs.db", "@eaDir/1.png/THUMB_M.jpg", "$RECYCLE.BIN/1.png", "lost+found/1.png", "Desktop.ini")
    path = write(tmp_path / "packed", FILES | {f"set/{name}": b"x" for name in (*junk, ".ipynb_checkpoints/1.png")})
    assert list(members(path)) == list(FILES.items())


@pytest.mark.parametrize("spelled", ["{}", "./{}", ".\\{}", ".//{}"], ids=["plain", "dot", "windows dot", "twice"])
@pytest.mark.parametrize("slash", ["/", "\\"], ids=["slash", "backslash"])
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_names_are_the_same_however_they_were_packed(write, slash, spelled, tmp_path):
    packed = {spelled.format(name.replace("/", slash)): content for name, content in FILES.items()}
    if write is write_zip:
        packed[spelled.format(f"set{slash}a{slash}")] = b""  # an entry for the folder itself
    assert list(members(write(tmp_path / "packed", packed))) == list(FILES.items())


def test_line_drawings_may_shrink_a_thousand_times(tmp_path):
    drawings = {f"set/{i}.bmp": bytes(10**6) for i in range(8)}
    for write in (write_zip, write_tar):
        path = write(tmp_path / write.__name__, drawings)
        assert 8 * 10**6 > 900 * path.stat().st_size
        assert dict(members(path)) == drawings


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
def test_what_could_do_harm_is_refused_and_nothing_is_written(write, entries, message, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "UNPACKED_BYTES", 10**6)
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


def test_links_in_a_directory_are_followed(tmp_path):
    write_directory(tmp_path / "elsewhere", {"1.png": b"x", "deep/2.png": b"y"})
    path = write_directory(tmp_path / "set", {"a/1.png": b"z"})
    (path / "b").symlink_to(tmp_path / "elsewhere")
    (path / "c.png").symlink_to("a/1.png")
    (path / "d").symlink_to("a")
    (tmp_path / "all").symlink_to(path)
    found = {"a/1.png": b"z", "b/1.png": b"x", "b/deep/2.png": b"y", "c.png": b"z", "d/1.png": b"z"}
    assert dict(members(path)) == dict(members(tmp_path / "all")) == found


LOOPS = {
    "to itself": {"a/loop": "."},
    "upwards": {"a/loop": "../.."},
    "there and back": {"a/there": "../b", "b/back": "../a"},
}


@pytest.mark.parametrize("links", LOOPS.values(), ids=LOOPS)
def test_links_in_a_circle_are_refused(links, tmp_path):
    path = write_directory(tmp_path / "set", {"a/1.png": b"z", "b/1.png": b"z"})
    for name, target in links.items():
        (path / name).symlink_to(target)
    with pytest.raises(DataError, match="a link to a folder that it lies in"):
        list(members(path))


def test_a_link_to_nowhere_is_refused(tmp_path):
    path = write_directory(tmp_path / "set", {"a/1.png": b"z"})
    (path / "test").symlink_to("/nowhere/at/all")
    with pytest.raises(DataError, match="test is a link to nowhere"):
        list(members(path))


def test_names_that_are_no_text_can_still_be_said(tmp_path):
    (tmp_path / "set").mkdir()
    with open(os.path.join(os.fsencode(tmp_path), b"set", b"caf\xe9.png"), "wb") as file:
        file.write(b"x")
    assert list(members(tmp_path / "set")) == [("caf\ufffd.png", b"x")]


def test_a_relative_path_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=rf"photos: there is no such file or directory \(looked for it in {tmp_path}\)"):
        list(members(Path("photos")))


def encrypted(path):
    content = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags, in both headers of the first file
        content[content.index(signature) + place] |= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def web_page(path):
    path.write_bytes(b"<!DOCTYPE html><title>Please log in</title>")


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
