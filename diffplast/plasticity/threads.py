"""A team of threads for compiled code that releases the interpreter lock."""

import os
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic

from .jit import part

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


class _Call:
    """A call of `run_team`. A member's part is done by a worker or, where the caller gave up before, by nobody.

    The handler of a signal may raise an exception in the caller at any point, while it gives up too. So locks are held
    by `with` alone, and what the caller does can be cut off and done again.
    """

    def __init__(self, size, function, counters):
        self.function, self.counters, self.error = function, counters, None
        self.going_on = threading.Lock()  # held by the caller until it returns, or an exception takes it away
        self.takers = {}
        self.unfinished = {rank: threading.Lock() for rank in range(1, size)}
        for lock in self.unfinished.values():
            lock.acquire()

    def member(self, rank):
        """A worker's part."""
        if self.takers.setdefault(rank, "worker") == "worker":
            try:
                self.function(rank)
            except BaseException as error:
                self.error = error
                self.release()
            finally:
                self.unfinished[rank].release()

    def wait(self):
        for lock in self.unfinished.values():
            with lock:
                pass

    def release(self):
        """Let nobody wait at a barrier any more."""
        if self.counters is not None:
            self.counters.fill(2**62)

    def give_up(self):
        """Have no part begun any more, and wait for those that were."""
        self.release()
        for rank, lock in self.unfinished.items():
            if self.takers.setdefault(rank, "nobody") == "worker":
                with lock:
                    pass


def _forget():
    """Begin without workers, as a forked process does: none of its parent's threads is there."""
    global _lock, _tasks, _workers, _calls
    _lock, _tasks, _workers, _calls = threading.RLock(), SimpleQueue(), [], set()


_forget()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _work(tasks):
    while True:
        _Call.member(*tasks.get())


def run_team(size: int, function: Callable[[int], None], counters: np.ndarray | None = None) -> None:
    """Call function(rank) for rank 0..size-1 at the same time, rank 0 in this thread; wait for all.

    One team works at a time in a process. Where a member or the handler of a signal raises an exception, the others
    wait at no barrier any more, and it is raised when they have returned.

    Args:
        size: members.
        function: compiled code, mostly. Its members may wait for each other.
        counters: those of all `Team`s among the members, (teams, 1), for members that meet at a `barrier`.
    """
    for call in tuple(_calls):
        if not call.going_on.locked():  # a second exception came while the caller gave up
            call.give_up()
            _calls.discard(call)
    if size == 1:
        function(0)
        return
    call = _Call(size, function, counters)
    with _lock, call.going_on:  # once more in the same thread, where a handler comes here
        _calls.add(call)
        try:
            while len(_workers) < sum(len(call.unfinished) for call in tuple(_calls)):
                worker = threading.Thread(target=_work, args=(_tasks,), name="diffplast", daemon=True)
                worker.start()
                _workers.append(worker)
            for rank in range(1, size):
                _tasks.put((call, rank))
            function(0)
            call.wait()
        except BaseException:
            call.give_up()
            raise
    _calls.discard(call)
    if call.error is not None:
        raise call.error


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
