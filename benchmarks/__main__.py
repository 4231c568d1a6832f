"""All benchmarks: python -m benchmarks [--quick].

The recurrence, training episodes of every task and where their time goes, checkpoints.
"""

from benchmarks import checkpoints, episodes, recurrence, shares

for benchmark in (recurrence, episodes, shares, checkpoints):
    print(f"\n## {benchmark.__doc__.splitlines()[0]}\n", flush=True)
    benchmark.main()
