"""All benchmarks: python -m benchmarks [--quick]. The recurrence, training episodes of every task, checkpoints."""

from benchmarks import checkpoints, episodes, recurrence

recurrence.main()
episodes.main()
checkpoints.main()
