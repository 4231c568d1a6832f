"""Side by side: what two runs gain, and how the time of all runs falls with cores or workers.

    python -m benchmarks.cluster [--quick]

First, for every arm at the scale of params.yaml: episodes a second of one run on all cores, and of as many runs of one
thread as there are cores, at the same time, one after the other in turns. Then, calculated from the rates of the runs
of one thread and from what evaluation and DVC take, the time of that scale on more cores. Runs are taken to their
full length, the longest first, each by the first core that is free. `diffplast.parallel` also puts runs that memory
slows beside others, which is faster; that is not calculated.
"""

import argparse
import heapq
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor

import torch

from benchmarks.timing import environment, table
from diffplast.core import params, registry, runs, training
from diffplast.core.task import of_arm
from diffplast.parallel.__main__ import reproduce_here
from diffplast.parallel.resources import usable_cores

CORES = (1, 2, 4, 8, 16, 32, 64, 128)
STAGE_SECONDS = 1.0  # of a stage around its work: its process, reading what it needs, DVC's record; two stages a run
WORKER_SECONDS = 7.0  # the same on a worker of a cluster: Python, DVC, push
REST_SECONDS = 60.0  # data sets, figures, report; about


def episodes_a_second(name, arm, scale, threads, seconds, barrier):
    """Rate of training, measured once all that share the barrier are warm, and that of held-out episodes."""
    torch.set_num_threads(threads)
    checked = params.load(name)
    task = runs.open_task(runs.Run(name, scale, arm, 0), checked)
    held_out = getattr(getattr(checked, name).test, scale)
    state, batch = training.State(task, 0), task.settings.batch
    training.update(task, state, batch)
    barrier.wait()
    begin, updates = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        training.update(task, state, batch)
        updates += 1
    trained = updates * batch / (time.perf_counter() - begin)
    begin = time.perf_counter()
    with torch.no_grad():
        task.step(state.network, task.episodes("test", state.generator, held_out.batch))
    return trained, held_out.batch / (time.perf_counter() - begin)


def at_once(processes, *arguments):
    """Rates of so many processes that measure at the same time."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(processes, context) as pool:
        barrier = manager.Barrier(processes, timeout=300)
        started = [pool.submit(episodes_a_second, *arguments, barrier) for _ in range(processes)]
        return [future.result() for future in started]


def side_by_side(name, arm, scale, cores, seconds, rounds):
    """(rate of one run on all cores, of one of as many runs, of its evaluation): medians over interleaved rounds."""
    alone, shared, evaluated = [], [], []
    for _ in range(rounds):
        alone.append(at_once(1, name, arm, scale, cores, seconds)[0][0])
        rates = at_once(cores, name, arm, scale, 1, seconds)
        shared.append(statistics.mean(trained for trained, _ in rates))
        evaluated.append(statistics.mean(tested for _, tested in rates))
    return tuple(statistics.median(values) for values in (alone, shared, evaluated))


def makespan(seconds, cores):
    """Seconds until the last run has ended, the longest first, each taken by the first core that is free."""
    free = [0.0] * cores
    for run in sorted(seconds, reverse=True):
        heapq.heapreplace(free, free[0] + run)
    return max(free)


def lengths(scale, rates):
    """Seconds of every run of a scale, trained and evaluated on one core. rates: (task, arm) -> (trained, tested)."""
    result = {}
    for name in registry.names():
        block = getattr(params.load(name), name)
        seeds, held_out = getattr(block.seeds, scale), getattr(block.test, scale)
        for arm in registry.load(name).arms:
            settings = getattr(block, scale).for_arm(arm)
            trained, tested = rates[name, arm]
            seconds = settings.episodes / trained + held_out.episodes / tested
            result |= {(name, arm, seed): seconds for seed in range(of_arm(seeds, arm))}
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round")
    seconds, rounds = (1, 1) if parser.parse_args().quick else (5, 3)
    cores, scale = usable_cores(), params.load().scale
    print(environment())
    reproduce_here([f"prepare_images@{scale}", f"prepare_omniglot@{scale}"], None)

    rows, rates = [["task", "arm", f"one run, {cores} threads", f"{cores} runs, a thread each", "times"]], {}
    for name in registry.names():
        for arm in registry.load(name).arms:
            alone, shared, tested = side_by_side(name, arm, scale, cores, seconds, rounds)
            rates[name, arm] = shared, tested
            rows.append([name, arm, f"{alone:.1f}", f"{cores * shared:.1f}", f"{cores * shared / alone:.2f}"])
    print(f"\nTraining episodes a second, at {scale}\n\n" + table(rows))

    alone = lengths(scale, rates)
    longest = max(alone, key=alone.get)
    rows = [["cores", "minutes", "on a cluster", "limited by"]]
    for count in CORES:
        here, there = (
            (makespan([run + 2 * around for run in alone.values()], count) + REST_SECONDS) / 60
            for around in (STAGE_SECONDS, WORKER_SECONDS)
        )
        bound = sum(alone.values()) / count > alone[longest]
        limit = "work" if bound else f"longest run: {longest[0]} {longest[1]}"
        rows.append([str(count), f"{here:.1f}", f"{there:.1f}", limit])
    print(f"\n{scale}: {len(alone)} runs, {sum(alone.values()) / 3600:.1f} hours of one core\n\n" + table(rows))


if __name__ == "__main__":
    main()
