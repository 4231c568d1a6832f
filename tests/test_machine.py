"""What is recorded of the machine, and that nothing of it can end a run."""

import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from diffplast.core import machine
from tests.conftest import ROOT

CPU = torch.device("cpu")
KEYS = {
    "seconds", "peak_memory_mb", "threads", "device", "processor", "cores", "python", "torch", "commit",
}  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process's own peak is not told apart")
def test_the_memory_of_a_process_is_not_that_of_its_parent():
    held = np.ones(50_000_000)  # 400 MB
    program = "from diffplast.core import machine; print(machine.peak_memory_mb())"
    command = [sys.executable, "-c", program]
    peak = float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    parents = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    assert held.nbytes / 1e6 < parents and 20 < peak < parents - 200


def proc(monkeypatch, content):
    """Have every file below /proc hold these bytes, or raise this error."""
    read_text = Path.read_text

    def changed(path, *arguments, **options):
        if not str(path).startswith("/proc/"):
            return read_text(path, *arguments, **options)
        if isinstance(content, Exception):
            raise content
        return content.decode(options.get("encoding") or "ascii", options.get("errors") or "strict")

    monkeypatch.setattr(Path, "read_text", changed)


PROC = {
    "gVisor: no VmHWM": b"Name:\tpython\nVmRSS:\t  1 kB\n",
    "empty": b"",
    "not UTF-8": b"Name:\t\xff\xfe\nmodel name\t: \xb5\n",
    "another unit": b"VmHWM:\t  1 MB\n",
    "not to be read": PermissionError(13, "Permission denied"),
    "missing": FileNotFoundError(2, "No such file or directory"),
}


@pytest.mark.parametrize("content", PROC.values(), ids=PROC)
def test_a_system_that_tells_little_is_described_with_what_it_tells(content, monkeypatch):
    proc(monkeypatch, content)
    described = machine.describe(CPU, 1.234)
    assert set(described) == KEYS and described["seconds"] == 1.23
    assert described["peak_memory_mb"] > 20  # from getrusage
    assert described["processor"]
    json.dumps(described, allow_nan=False)


def fails(*arguments, **options):
    raise RuntimeError("not on this system")


def test_nothing_that_fails_ends_a_run(monkeypatch):
    proc(monkeypatch, OSError(5, "Input/output error"))
    monkeypatch.setattr(resource, "getrusage", fails)
    monkeypatch.setattr(subprocess, "run", fails)
    monkeypatch.setattr(os, "cpu_count", fails)
    monkeypatch.setattr(torch, "get_num_threads", fails)
    monkeypatch.setattr(torch.cuda, "get_device_name", fails)
    for name in ("processor", "machine", "python_version"):
        monkeypatch.setattr(platform, name, fails)
    assert machine.describe(torch.device("cuda"), 1.0) == {
        "seconds": 1.0, "peak_memory_mb": None, "threads": None, "device": "cuda", "processor": "unknown",
        "cores": None, "python": "unknown", "torch": torch.__version__, "commit": "unknown",
    }  # fmt: skip


def test_a_system_without_getrusage_has_no_peak(monkeypatch):
    proc(monkeypatch, b"")
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert machine.peak_memory_mb() is None


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_the_commit_is_that_of_this_project(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    project = tmp_path / "project"
    (project / "diffplast").mkdir(parents=True)
    (project / "diffplast" / "__init__.py").touch()
    monkeypatch.chdir(project)
    assert machine.commit() == "unknown", "a source archive"

    git(tmp_path, "init")
    (tmp_path / "notes.txt").touch()
    git(tmp_path, "add", "notes.txt")
    git(tmp_path, "commit", "-m", "of something else")
    assert machine.commit() == "unknown", "a source archive in another project's repository"

    git(project, "init")
    git(project, "add", "diffplast")
    git(project, "commit", "-m", "of this project")
    committed = machine.commit()
    assert len(committed) == 12 and int(committed, 16)
    (project / "params.yaml").write_text("scale: laptop\n", encoding="utf-8")
    git(project, "add", "params.yaml")
    assert machine.commit() == committed, "parameters are no code, and are kept with each run"
    (project / "diffplast" / "__init__.py").write_text("x = 1\n", encoding="utf-8")
    assert machine.commit() == committed + "+"

    monkeypatch.setenv("PATH", "")
    assert machine.commit() == "unknown", "git is not installed"
