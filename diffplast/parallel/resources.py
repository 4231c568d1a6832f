"""What of this machine can be used, where a container or the user may have set a limit."""

import os
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Number of cores that this process may use, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = _read_numbers(CGROUP / "cpu.max")  # microseconds of cores in each period
    if len(limit) == 2:
        cores = min(cores, limit[0] // limit[1])
    return max(1, cores)


def available_memory() -> int:
    """Memory in bytes that processes can still take without swapping."""
    memory = psutil.virtual_memory().available
    limit, used = _read_numbers(CGROUP / "memory.max"), _read_numbers(CGROUP / "memory.current")
    if limit and used:
        memory = min(memory, limit[0] - used[0] + _reclaimable())
    return memory


def _reclaimable() -> int:
    """Memory in bytes of a container that holds files read, which the kernel gives back before it refuses any."""
    try:
        rows = (CGROUP / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(row.split()[1]) for row in rows if row.startswith("inactive_file ")), 0)


def _read_numbers(path: Path) -> list[int]:
    """Numbers in a small file; none where it is not there, or says that there is no limit."""
    try:
        return [int(word) for word in path.read_text().split()]
    except (OSError, ValueError):
        return []
