"""A team of threads waits for nobody who will not come."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from diffplast.plasticity.jit import kernel
from diffplast.plasticity.threads import Team, barrier, run_team

ROOT = Path(__file__).parents[1]


@kernel
def _meet(team, met):
    arrived = 0
    for _ in range(3):
        arrived = barrier(team, arrived)
    met[team.rank] += 1


def meet(size, before=lambda rank: None):
    """Have all members of a team meet three times; returns how many did."""
    counters, met = np.zeros((1, 1), np.int64), np.zeros(size, np.int64)

    def member(rank):
        before(rank)
        _meet(Team(0, 1, size, rank, counters[0]), met)

    run_team(size, member, counters)
    return met.tolist()


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_exception_of_a_member(rank):
    def fail(member):
        if member == rank:
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        meet(3, fail)
    assert meet(3) == [1, 1, 1]


def test_handler_of_a_signal_may_use_a_team_itself():
    found = []

    def interrupt(rank):
        if rank == 0:
            found.append(meet(3))

    assert meet(2, interrupt) == [1, 1] and found == [[1, 1, 1]]


def test_threads_at_once():
    found = []
    callers = [threading.Thread(target=lambda: found.extend(meet(2) for _ in range(50))) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert found == [[1, 1]] * 150


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_process_forked_while_a_team_works():
    """As a DataLoader's workers are."""
    inside, done = threading.Event(), threading.Event()

    def stay(rank):
        inside.set()
        done.wait()

    caller = threading.Thread(target=meet, args=(2, stay))
    caller.start()
    inside.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # ends the child where it waits
        os._exit(0 if meet(2) == [1, 1] else 1)
    _, status = os.waitpid(child, 0)
    done.set()
    caller.join()
    assert os.waitstatus_to_exitcode(status) == 0


def ran(program, *arguments):
    """What a program prints that must end within two minutes."""
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


OUTLIVES = """
import threading
from tests.test_threads import meet
print(*meet(2), flush=True)
threading.Thread(target=lambda: (threading.main_thread().join(), print(*meet(3)))).start()
"""


def test_a_thread_that_outlives_the_main_thread():
    assert ran(OUTLIVES) == ["1"] * 5


# Signals come every 0.2 milliseconds or so, mostly in the middle of a call; the second while the first is handled.
SIGNALS = """
import random, signal
from tests.test_threads import meet

class Signal(Exception):
    pass

def handle(*_):
    global armed
    if armed:
        armed -= 1
        raise Signal

armed, draw = 0, random.Random(0).expovariate
signal.signal(signal.SIGALRM, handle)
meet(3)
for _ in range(200):
    try:
        try:
            armed = 2
            signal.setitimer(signal.ITIMER_REAL, 1e-6 + draw(5000), 1e-6 + draw(5000))
            while True:
                meet(3)
        except Signal:
            armed = 0
    except Signal:
        pass
    assert meet(3) == [1, 1, 1]
signal.setitimer(signal.ITIMER_REAL, 0)
print(*meet(3))
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers of the system")
def test_signals_in_the_middle():
    assert ran(SIGNALS) == ["1"] * 3
