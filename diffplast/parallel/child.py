"""What runs in the process of a stage. It imports little: every stage waits for it."""

import multiprocessing
import os
import runpy
import shlex
import signal
import subprocess
import sys
import threading
from multiprocessing.connection import Connection


def run(command: str, folder: str, threads: int, output: Connection) -> None:
    """Do what `command` does in `folder`, with so many threads, and print to `output`. Ends as the command ends.

    `python -m MODULE ...` is run in this process, as Python itself would.
    """
    try:
        os.setpgid(0, 0)  # Ctrl-C is for the parent alone, which asks each stage to end
        for number in (1, 2):
            os.dup2(output.fileno(), number)
        output.close()
        sys.stdout, sys.stderr = (
            open(number, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False) for number in (1, 2)
        )
        threading.Thread(target=_end_with_parent, daemon=True).start()
        os.chdir(folder)
        words = shlex.split(command)
        if words[:2] != ["python", "-m"]:
            sys.exit(subprocess.run(command, shell=True).returncode)
        _prepare(threads)
        sys.argv = words[2:]
        sys.path.insert(0, folder)
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:
        sys.exit(130)


def _prepare(threads: int) -> None:
    import torch

    from diffplast.core.progress import Progress

    torch.set_num_threads(threads)
    Progress.seconds_between_lines = 1  # the view shows the last one
    # What this module has imported is not of the stage: a checkpoint is bound to the files that training imports.
    for name in [name for name in sys.modules if name.startswith("diffplast.parallel")]:
        del sys.modules[name]


def _end_with_parent() -> None:
    """Wait until the parent is no more, then end as if it had asked for it."""
    multiprocessing.parent_process().join()
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    os.kill(os.getpid(), signal.SIGTERM)
