"""In the checkout of a worker of a cluster: python -m diffplast.parallel.worker STAGE.

Runs a stage, or restores it from the DVC remote, and pushes its results there.
"""

import os
import signal
import sys
import threading

from dvc.repo import Repo


def run_and_share(name: str) -> None:
    """Make the outputs of a stage and push them, and the entry of DVC's run cache that names them."""
    repo = Repo()
    repo.reproduce(name, pull=True)
    repo.push(name)
    (stage,) = repo.stage.collect(name)
    uncached = {out.hash_info for out in stage.outs if not out.use_cache}
    if uncached:
        repo.commit(name, force=True)  # unlike reproduce, this has the run cache hold outputs with `cache: false` too,
        repo.cloud.push(uncached)  # and push leaves them out
    repo.stage_cache.push(None)  # last, so that it never names what is not there


def end_with_worker() -> None:
    """Wait for the end of standard input, a pipe from the worker, then end all that runs here, with its state saved."""
    sys.stdin.read()
    os.killpg(0, signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=end_with_worker, daemon=True).start()
    run_and_share(sys.argv[1])
