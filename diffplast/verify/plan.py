"""Which replays fit the time: one seed of every arm first, then more seeds, then more windows."""

from collections import defaultdict
from collections.abc import Iterable

from diffplast.core.runs import Run
from diffplast.verify.committed import Committed
from diffplast.verify.replay import NOT_REPLAYED, Job, Outcome

OVERHEAD_SECONDS = 2.0
"""Of every replay: its network is made, and evaluated untrained."""
EVALUATION_SHARE = 0.5
"""Of the time that an episode takes in training: it goes forwards only."""


def seconds_per_episode(committed: Committed) -> float:
    """Time in training, by the run's own record."""
    return committed.record["seconds"] / max(1, committed.episodes)


def estimate(committed: Committed, windows: int, network: bool, speed: float) -> float:
    """Estimate how long a replay takes, in seconds. speed: this machine's time, as a multiple of the record's."""
    episodes = max(committed.ends[: max(windows, 1)], default=committed.episodes)
    if network:
        tested = {name: count for name, count in committed.metrics.items() if name.endswith("_episodes")}
        episodes += EVALUATION_SHARE * (sum(tested.values()) - committed.episodes)
    return OVERHEAD_SECONDS + seconds_per_episode(committed) * speed * episodes


def by_seed(runs: Iterable[Committed]) -> list[Committed]:
    """Order runs: the first seed of every arm, then the second of every arm, and so on."""
    seen: dict[tuple, int] = defaultdict(int)
    ranked = []
    for place, committed in enumerate(runs):
        arm = committed.run.scale, committed.run.task, committed.run.arm
        ranked.append((seen[arm], place, committed))
        seen[arm] += 1
    return [committed for _, _, committed in sorted(ranked, key=lambda each: each[:2])]


def first_of_arms(runs: Iterable[Committed]) -> list[Committed]:
    """Return the first seed of every arm."""
    first = {}
    for committed in runs:
        first.setdefault((committed.run.scale, committed.run.task, committed.run.arm), committed)
    return list(first.values())


def choose(
    runs: list[Committed], done: dict[Run, Outcome], seconds: float, speed: float, least: int, most: int
) -> list[Job]:
    """Choose what to replay next. seconds: of all cores together. least, most: windows of a run.

    A run that was replayed already is replayed for more windows only; `done` says how far it was. One that is found to
    differ, or cannot be replayed, is left alone. Returns jobs without data and deadline.
    """
    left, chosen = seconds, {}
    ended = {run for run, outcome in done.items() if outcome.verdict == NOT_REPLAYED or not outcome.agrees}
    runs = by_seed(committed for committed in runs if committed.run not in ended)
    want = least
    while runs:
        for committed in runs:
            run = committed.run
            before = chosen.get(run)
            had = before.windows if before else done[run].windows if run in done else 0
            windows = min(want, most, len(committed.ends))
            network = committed.keeps_network and (run not in done or done[run].network is None)
            if windows <= had and (before or not network or run not in done):
                continue
            windows = max(windows, had)
            cost = estimate(committed, windows, network, speed)
            if before:
                cost -= estimate(committed, before.windows, before.network, speed)
            if cost <= left:
                chosen[run] = Job(committed, windows, network=network)
                left -= cost
        if want >= min(most, max(len(committed.ends) for committed in runs)):
            break
        want *= 2
    # The longest first, so that no core is left with it at the end.
    return sorted(chosen.values(), key=lambda job: -estimate(job.committed, job.windows, job.network, speed))
