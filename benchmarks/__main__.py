"""All benchmarks: python -m benchmarks [--quick]. The recurrence alone, then whole training episodes of every task."""

from benchmarks import episodes, recurrence

recurrence.main()
episodes.main()
