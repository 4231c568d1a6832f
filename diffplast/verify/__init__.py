"""Replays of committed runs with today's code: docs/verify.md."""
