"""A team of threads for compiled code that releases the interpreter lock."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

_lock = threading.Lock()
_pool = None
_pool_key = None


def run_team(size, function):
    """Call function(rank) for rank 0..size-1 at the same time, rank 0 in this thread; wait for all.

    The members may wait for each other, so they must really run together: one team at a time in a process.
    """
    global _pool, _pool_key
    if size == 1:
        function(0)
        return
    with _lock:
        if _pool_key != (os.getpid(), size):  # a forked process has no threads of its parent's pool
            _pool = ThreadPoolExecutor(size - 1, thread_name_prefix="diffplast")
            _pool_key = os.getpid(), size
        others = [_pool.submit(function, rank) for rank in range(1, size)]
        function(0)
        for other in others:
            other.result()
