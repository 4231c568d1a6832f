"""Benchmarks: python -m benchmarks."""

import diffplast.core  # noqa: F401 - before torch, see there
