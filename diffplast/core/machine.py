"""What a run cost, and on what machine: kept apart from results, since it differs from one machine to the next.

All of this only describes a run that has ended: what a system does not tell is left unknown, and never an error.
"""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")
GIT_SECONDS = 30  # a network drive may take long to answer
CODE = ("diffplast", ":(glob)stages/*.py", "requirements.lock")  # and not what the pipeline writes: parameters, locks


def known(what: Callable[[], T], otherwise: T) -> T:
    """Return what a function finds, or `otherwise` where it fails in whatever way."""
    try:
        return what()
    except Exception:  # a description is never worth the run that it describes
        return otherwise


def peak_memory_mb() -> float | None:
    """Largest resident memory of this process so far, in MB (10^6 bytes); None where the system does not tell."""
    # On Linux ru_maxrss is at least what the parent had used, and sandboxes may leave VmHWM out.
    return known(_peak_of_proc, None) or known(_peak_of_getrusage, None) or None


def _peak_of_proc() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
    return int(re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)[1]) * 1024 / 1e6


def _peak_of_getrusage() -> float:
    import resource  # Windows has none

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def processor() -> str:
    """Name of the processor, as far as the system tells; "unknown" where it does not."""
    return known(_model_name, "") or known(platform.processor, "") or known(platform.machine, "") or "unknown"


def _model_name() -> str:
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    return re.search(r"^model name[^:]*:(.*)$", info, re.MULTILINE)[1].strip()


def commit() -> str:
    """Git commit of the project, with "+" where its code has changed since; "unknown" outside git."""
    return known(_commit, "") or "unknown"


def _commit() -> str:
    # A source archive may lie in somebody else's repository, whose commit would say nothing of this code.
    _git("ls-files", "--error-unmatch", "diffplast/__init__.py")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", *CODE)
    return _git("describe", "--always", "--abbrev=12") + ("+" if changed else "")


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    said = subprocess.run(command, capture_output=True, check=True, timeout=GIT_SECONDS, stdin=subprocess.DEVNULL)
    return said.stdout.decode("utf-8", errors="replace").strip()


def _device(device: torch.device) -> str:
    return device.type if device.type == "cpu" else torch.cuda.get_device_name(device)


def describe(device: torch.device, seconds: float) -> dict:
    """Cost and machine of a run; what is not known is None or "unknown".

    seconds: time in the training loop, over all its sittings.
    """
    peak = peak_memory_mb()
    return {
        "seconds": round(seconds, 2),
        "peak_memory_mb": None if peak is None else round(peak, 1),
        "threads": known(torch.get_num_threads, None),
        "device": known(lambda: _device(device), device.type),
        "processor": processor(),
        "cores": known(os.cpu_count, None),
        "python": known(platform.python_version, "unknown"),
        "torch": str(torch.__version__),
        "commit": commit(),
    }
