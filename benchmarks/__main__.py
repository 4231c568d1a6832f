"""All benchmarks: python -m benchmarks [--quick].

The recurrence, training episodes of every task and where their time goes, checkpoints, runs side by side.
"""

from benchmarks import checkpoints, cluster, episodes, recurrence, shares

print("# python -m benchmarks\n")
print("The table of whole training episodes is the one to look at: how much faster a run is than the naive loop.")
for benchmark in (recurrence, episodes, shares, checkpoints, cluster):
    title, _, *explained = benchmark.__doc__.strip().split("\n\n")  # without the line that says how to call it
    print(f"\n## {title}\n\n" + "\n\n".join(explained) + "\n", flush=True)
    benchmark.main()
