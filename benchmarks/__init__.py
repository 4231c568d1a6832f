"""Benchmarks: python -m benchmarks."""

import diffplast  # noqa: F401 - before torch, see there
