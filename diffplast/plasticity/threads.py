"""A team of threads for compiled code that releases the interpreter lock."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic

from .jit import part

_lock = threading.Lock()
_pool = None
_pool_key = None

_yield_processor = types.ExternalFunction("SwitchToThread" if sys.platform == "win32" else "sched_yield", types.int32())


class Team(NamedTuple):
    """A member of a team of `size` threads: its rank, and the episodes first, first + stride, ... of the team.

    counter (1,), of zeros at the start, is one for the team: how often its members came to a barrier.
    """

    first: int
    stride: int
    size: int
    rank: int
    counter: np.ndarray


def run_team(size: int, function: Callable[[int], None]) -> None:
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


@intrinsic
def _atomic_add(typingctx, counter, value):
    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.atomic_rmw("add", array.data, args[1], "seq_cst")

    return types.int64(types.Array(types.int64, 1, "C"), types.int64), codegen


@part
def barrier(team, arrived):
    """Wait until all members of a team have called this; returns the next value of `arrived`, at first 0."""
    arrived += team.size
    if team.size > 1:
        _atomic_add(team.counter, 1)
        spins = 0
        while _atomic_add(team.counter, 0) < arrived:
            spins += 1
            if spins > 200:
                _yield_processor()
    return arrived
