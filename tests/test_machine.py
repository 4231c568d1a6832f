"""What is recorded of the machine."""

import resource
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ROOT


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process's own peak is not told apart")
def test_the_memory_of_a_process_is_not_that_of_its_parent():
    held = np.ones(50_000_000)  # 400 MB
    program = "from diffplast.core import machine; print(machine.peak_memory_mb())"
    command = [sys.executable, "-c", program]
    peak = float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    parents = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    assert held.nbytes / 1e6 < parents and 20 < peak < parents - 200
