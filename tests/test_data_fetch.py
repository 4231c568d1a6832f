"""Downloads from a server that misbehaves: every one ends whole, or in an error and nothing."""

import functools
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from diffplast.core import params
from diffplast.data import DataError, fetch
from diffplast.data.fetch import Mirror, Place, with_mirror
from tests.conftest import ROOT

BODY = bytes(range(256)) * 2000  # 512,000 bytes
CHECKSUM = "sha256:" + hashlib.sha256(BODY).hexdigest()
HALF = 2**18  # a whole number of the pieces in which a download is written


# What the server may do with a request. `handler.server.body` is the file, `start` where the client wants to go on.
def whole(handler, start):
    """Resumes, as most servers do."""
    body = handler.server.body
    if start >= len(body):
        handler.answer(416, b"")
    elif start:
        handler.answer(206, body[start:])
    else:
        handler.answer(200, body)


def from_the_start(handler, start):
    handler.answer(200, handler.server.body)


def missing(handler, start):
    handler.answer(404, b"no such file")


def broken(handler, start):
    handler.answer(500, b"out of order")


def truncated(handler, start):
    handler.answer(200, BODY[:HALF], length=len(BODY))


def stalled(handler, start):
    handler.answer(200, BODY[:HALF], length=len(BODY))
    handler.wfile.flush()
    handler.server.released.wait(20)


def silent(handler, start):
    handler.server.released.wait(20)


def damaged(handler, start):
    handler.answer(200, BODY[:-1] + b"?")


def web_page(handler, start):
    handler.answer(200, b"\n<!DOCTYPE html><title>Please log in</title>")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.server.starts.append(start)
        behaviour = self.server.behaviours.pop(0) if len(self.server.behaviours) > 1 else self.server.behaviours[0]
        behaviour(self, start)

    def answer(self, status, body, length=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    """behaviours: one for each request, the last one for all that follow. starts: where each request began."""

    daemon_threads = True
    body = BODY

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviours, self.starts, self.released = [whole], [], threading.Event()

    def place(self, name="archive.zip", checksum=CHECKSUM):
        return Place(f"http://127.0.0.1:{self.server_address[1]}/{name}", checksum)


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty working directory; nobody waits long."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fetch, "WAIT_S", 0.0)
    monkeypatch.setattr(fetch, "TIMEOUT_S", 0.3)
    return tmp_path / "downloads"


def get(*places):
    return fetch.fetch(places, "data.some.set")


def files(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


RECOVERED = {
    "well": ([whole], [0]),
    "500, then success": ([broken, broken, whole], [0, 0, 0]),
    "truncated, then resumed": ([truncated, whole], [0, HALF]),
    "truncated, and never resumes": ([truncated, from_the_start], [0, HALF]),
    "stalled, then resumed": ([stalled, whole], [0, HALF]),
    "no answer, then success": ([silent, whole], [0, 0]),
}


@pytest.mark.parametrize("behaviours, starts", RECOVERED.values(), ids=RECOVERED)
def test_what_passes_is_recovered_from(server, folder, behaviours, starts):
    server.behaviours = behaviours
    path, place = get(server.place())
    assert path.read_bytes() == BODY and place == server.place()
    assert files(folder) == [path.name]
    assert server.starts == starts


REFUSED = {
    "404": ([missing], "answers 404", 1),
    "500 for ever": ([broken], "answers 500", fetch.ATTEMPTS),
    "truncated for ever": ([truncated], "Connection broken|IncompleteRead", fetch.ATTEMPTS),
    "stalled for ever": ([stalled], "timed out", fetch.ATTEMPTS),
    "no answer": ([silent], "timed out", fetch.ATTEMPTS),
    "wrong checksum": ([damaged], f"its checksum is not {CHECKSUM}", 1),
    "web page": ([web_page], "a web page came in place of the archive", 1),
}


@pytest.mark.parametrize("behaviours, message, requests", REFUSED.values(), ids=REFUSED)
def test_what_stays_is_said_and_the_next_run_succeeds(server, folder, behaviours, message, requests):
    server.behaviours = behaviours
    with pytest.raises(DataError, match=message) as error:
        get(server.place())
    assert server.place().address in str(error.value) and "data.some.set" in str(error.value)
    assert len(server.starts) == requests
    assert all(name.endswith(".partial") for name in files(folder)), "nothing is taken for whole"

    server.behaviours = [whole]
    path, _ = get(server.place())
    assert path.read_bytes() == BODY and files(folder) == [path.name]


def test_places_are_tried_in_order(server, capsys):
    server.behaviours = [missing, damaged, whole]
    first, second, third = (server.place(name) for name in ("first.zip", "second.zip", "third.zip"))
    closed = Place("http://127.0.0.1:1/closed.zip", CHECKSUM)
    path, place = get(first, second, closed, third)
    assert place == third and path.read_bytes() == BODY
    said = capsys.readouterr().err
    assert f"{first.address}: the server answers 404 Not Found; trying {second.address}" in said
    assert f"{second.address}: what comes from there is damaged" in said
    assert f"{closed.address}: Failed to establish a new connection" in said


def test_a_download_is_kept_and_used_again_but_not_when_it_is_damaged(server):
    path, _ = get(server.place())
    assert get(server.place()) == (path, server.place())
    assert len(server.starts) == 1
    path.write_bytes(BODY[:HALF])
    assert get(server.place())[0].read_bytes() == BODY
    assert len(server.starts) == 2


def test_two_addresses_of_one_name_do_not_replace_each_other(server):
    first, _ = get(server.place("one/archive.zip"))
    server.body = BODY[::-1]
    second, _ = get(server.place("two/archive.zip", "md5:" + hashlib.md5(server.body).hexdigest()))
    assert first.read_bytes() == BODY and second.read_bytes() == BODY[::-1]


def name_of(place):
    return f"{hashlib.sha256(place.address.encode()).hexdigest()[:8]}-{Path(place.address).name}"


BEGUN = {
    "another file": (b"x" * HALF, [HALF, 0]),
    "more than the file": (b"x" * (len(BODY) + 1), [len(BODY) + 1, 0]),
    "all of it": (BODY, [len(BODY)]),
    "nothing": (b"", [0]),
}


@pytest.mark.parametrize("content, starts", BEGUN.values(), ids=BEGUN)
def test_whatever_was_begun_the_file_is_whole(server, folder, content, starts):
    server.behaviours = [missing, whole]
    with pytest.raises(DataError):
        get(server.place())
    (folder / f"{name_of(server.place())}.partial").write_bytes(content)
    server.starts.clear()
    path, _ = get(server.place())
    assert path.read_bytes() == BODY and files(folder) == [path.name]
    assert server.starts == starts


def test_a_server_that_never_ends_is_left(server, folder, monkeypatch):
    monkeypatch.setattr(fetch, "LARGEST", HALF)
    with pytest.raises(DataError, match="sends more than 262,144 bytes"):
        get(server.place())
    assert sum(path.stat().st_size for path in folder.iterdir()) == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a file on a disk that is full")
def test_a_full_disk_is_said_and_the_next_run_succeeds(server, folder):
    folder.mkdir()
    partial = folder / f"{name_of(server.place())}.partial"
    partial.symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"archive\.zip cannot be written: No space left on device.*run again"):
        get(server.place())
    assert len(server.starts) == 1, "no other address is asked for room"
    partial.unlink()
    assert get(server.place())[0].read_bytes() == BODY


@pytest.mark.parametrize(
    "how, code", [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)], ids=["killed", "Ctrl-C"]
)
def test_an_interrupted_stage_goes_on(server, folder, tmp_path, how, code):
    server.behaviours = [stalled, whole]
    archive = f"{{mirror: '{server.place().address}', sha256: {CHECKSUM.removeprefix('sha256:')}}}"
    shutil.copy(ROOT / "params.yaml", tmp_path)
    params.assign(["datasets.images=cifar10", f"data.images.cifar10.archive={archive}"], tmp_path / "params.yaml")
    command = [sys.executable, ROOT / "stages" / "prepare.py", "images", "smoke"]
    # A process in the background may have inherited that Ctrl-C is ignored.
    heeding = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}  # an installed package may be that of another folder
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=heeding
    )
    partial = folder / f"{name_of(server.place())}.partial"
    while not (partial.exists() and partial.stat().st_size == HALF) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(how)
    said = process.communicate()[1]
    assert process.returncode == code and "Traceback" not in said
    assert ("resumes where it stopped" in said) == (how == signal.SIGINT)
    assert partial.stat().st_size == HALF and name_of(server.place()) not in files(folder)
    assert not list(tmp_path.rglob("data.npz*"))

    path, _ = get(server.place())
    assert path.read_bytes() == BODY and files(folder) == [path.name]
    assert server.starts == [0, HALF]


def test_a_local_path_is_used_where_it_is(server, folder, tmp_path, capsys):
    copy = tmp_path / "copy.zip"
    copy.write_bytes(BODY)
    assert get(Place(str(copy), CHECKSUM), server.place()) == (copy, Place(str(copy), CHECKSUM))
    assert not server.starts and not folder.exists()
    copy.write_bytes(BODY[1:])
    assert get(Place(str(copy), CHECKSUM), server.place())[1] == server.place()
    assert f"{copy}: its checksum is not {CHECKSUM}; trying {server.place().address}" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"elsewhere\.zip: there is no such file"):
        get(Place("elsewhere.zip", CHECKSUM))


def test_a_relative_path_says_where_it_was_looked_for(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=rf"copy\.zip: there is no such file \(looked for it in {tmp_path}\)"):
        get(Place("copy.zip", CHECKSUM))


def test_certificates_that_are_not_there_are_said_and_not_taken_for_a_full_disk(folder, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/company.pem")
    with pytest.raises(DataError, match=r"localhost.*: Could not find .*/nowhere/company\.pem") as error:
        get(Place("https://localhost:1/archive.zip", CHECKSUM))
    assert "cannot be written" not in str(error.value)


def test_a_mirror_comes_first_with_its_checksum_or_the_official_one():
    official = (Place("https://example.org/a.zip", "md5:0"),)
    assert with_mirror(Mirror(mirror=None, sha256=None), official) == [*official]
    assert with_mirror(Mirror(mirror="b.zip", sha256=None), official) == [Place("b.zip", "md5:0"), *official]
    other = "ab" * 32
    assert with_mirror(Mirror(mirror="b.zip", sha256=other), official) == [Place("b.zip", f"sha256:{other}"), *official]
