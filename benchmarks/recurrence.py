"""The recurrence of the three recurrent tasks: first that the implementations agree, then what they cost.

    python -m benchmarks.recurrence [--quick]

An episode here is forward and backward through the recurrence alone, without the update of the weights. Ratios are
against the naive loop at batch 1, per episode, from the smallest times of one run in which all took turns. The maze has
the released program's 200 neurons here. "binary, added" has its inputs added, as that program does, not clamped. The
last table is how the cost of the fused form grows.
"""

import argparse
import sys

import torch

from benchmarks.timing import best_and_median, environment, interleaved, peak_memory_mb, table
from diffplast.core import machine
from diffplast.plasticity import PlasticRollout, plastic_rnn


def binary(batch):
    """5 patterns of 1,000 bits shown 6 steps, gap 4, two rounds, clamped; then one with half of its bits."""
    return _patterns(batch, 1001, [torch.randn(batch, 1001).sign() for _ in range(5)], 2, 6, 4, 6)


def binary_added(batch):
    """The same with inputs of 20 times the pattern added instead of clamped, as the published program has it."""
    inputs, _, rule = binary(batch)
    return 20 * inputs, None, rule


def images(batch):
    """3 images of 1,024 pixels shown 20 steps, gap 2, three rounds, clamped; then one with half of its pixels."""
    return _patterns(batch, 1025, [torch.rand(batch, 1025) * 2 - 1 for _ in range(3)], 3, 20, 2, 3)


def _patterns(batch, n, patterns, rounds, shown, gap, test):
    inputs, clamped = [], []
    bias = torch.zeros(batch, n)
    bias[:, -1] = 1
    for pattern in patterns * rounds:
        pattern[:, -1] = 1
        inputs += [pattern] * shown + [bias] * gap
        clamped += [torch.ones(batch, n, dtype=torch.bool)] * shown + [bias > 0] * gap
    half = torch.rand(batch, n) < 0.5
    half[:, -1] = True
    inputs += [patterns[0] * half] * test
    clamped += [half] * test
    return torch.stack(inputs), torch.stack(clamped), "hebb"


def maze(batch, n=200, steps=250):
    """250 steps of 200 free neurons."""
    return 0.3 * torch.randn(steps, batch, n), None, "oja"


CASES = {"binary": binary, "binary, added": binary_added, "images": images, "maze": maze}


def parameters(n):
    weight, alpha = (0.01 * torch.randn(2, n, n)).unbind()
    return [weight.clone().requires_grad_(), alpha.clone().requires_grad_(), torch.tensor(0.01, requires_grad=True)]


def episode(name, case, batch, backend):
    """A function that runs a batch of episodes forward and backward and returns outputs and gradients."""
    torch.manual_seed(0)
    inputs, clamped, rule = case(batch)
    leaves = parameters(inputs.shape[2])

    def run():
        if backend == "roll-out":
            rollout = PlasticRollout(*leaves, batch, rule)
            for row in inputs:
                rollout.step(row)
            outputs, _ = rollout.outputs(inputs)
        else:
            outputs, _ = plastic_rnn(inputs, *leaves, clamped, rule, backend=backend)
        used = outputs if name == "maze" else outputs[-1]
        return outputs.detach(), torch.autograd.grad(((used - 0.5) ** 2).sum(), leaves)

    return run


def check(name, backends):
    """Exit unless every implementation gives the results of the naive loop at batch 1."""
    outputs, gradients = episode(name, CASES[name], 1, "naive")()
    for backend in backends:
        found, found_gradients = episode(name, CASES[name], 1, backend)()
        error = (found - outputs).abs().max()
        relative = max((a - b).norm() / b.norm() for a, b in zip(found_gradients, gradients, strict=True))
        print(f"{name}, {backend}: outputs to {error:.0e}, gradients to {relative:.0e} relative", flush=True)
        if not (error < 1e-4 and relative < 1e-3):
            sys.exit(f"{backend} differs from naive on {name}: no timing")


def compare(seconds):
    heading = ["task", "implementation", "batch", "ms an episode", "median", "ratio", "peak MB"]
    for name, case in CASES.items():
        backends = ["fused", "lowrank"] + (["roll-out"] if name == "maze" else [])
        check(name, backends)
        most = 32 if name == "maze" else 8
        jobs = [("naive", 1), *((backend, batch) for backend in backends for batch in (1, most))]
        if name == "maze":
            jobs.remove(("lowrank", most))  # its memory grows with the square of the steps
        times = interleaved({job: episode(name, case, job[1], job[0]) for job in jobs}, seconds)
        naive = min(times["naive", 1])
        rows = [heading]
        for (backend, batch), taken in times.items():
            best, median = (1e3 * value / batch for value in best_and_median(taken))
            peak = peak_memory_mb("benchmarks.recurrence", "--memory", name, backend, str(batch))
            ratio = 1e3 * naive / best
            rows.append([name, backend, str(batch), f"{best:.1f}", f"{median:.1f}", f"{ratio:.1f}", f"{peak:.0f}"])
        print("\n" + table(rows) + "\n", flush=True)


def growth(seconds):
    """How the cost of the fused form grows, around the maze's shape, in ms an episode."""
    shapes = [(n, 250, 8) for n in (50, 100, 200, 400, 800)]
    shapes += [(200, steps, 8) for steps in (31, 62, 125, 500)] + [(200, 250, batch) for batch in (1, 2, 4, 16, 32)]
    jobs = {
        (n, steps, batch): episode("maze", lambda batch, n=n, steps=steps: maze(batch, n, steps), batch, "fused")
        for n, steps, batch in shapes
    }
    rows = [["neurons", "steps", "batch", "ms an episode", "median"]]
    for shape, taken in interleaved(jobs, seconds).items():
        best, median = best_and_median(taken)
        rows.append([*map(str, shape), f"{best / shape[2] * 1e3:.2f}", f"{median / shape[2] * 1e3:.2f}"])
    print("\n" + table(rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--memory", nargs=3, metavar=("TASK", "BACKEND", "BATCH"), help="run one, print MB")
    arguments = parser.parse_args()
    if arguments.memory:
        name, backend, batch = arguments.memory
        run = episode(name, CASES[name], int(batch), backend)
        run(), run()
        print(machine.peak_memory_mb())
        return
    print(environment())
    compare(3 if arguments.quick else 20)
    growth(3 if arguments.quick else 20)


if __name__ == "__main__":
    main()
