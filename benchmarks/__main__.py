"""All benchmarks: python -m benchmarks [--quick].

The recurrence, training episodes of every task and where their time goes, checkpoints, runs side by side.
"""

from benchmarks import checkpoints, cluster, episodes, recurrence, shares

print("# python -m benchmarks")
for benchmark in (recurrence, episodes, shares, checkpoints, cluster):
    print(f"\n## {benchmark.__doc__.splitlines()[0]}\n", flush=True)
    benchmark.main()
