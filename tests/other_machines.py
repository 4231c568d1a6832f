"""How tests compare bits with those of a processor that has fewer instructions."""

import os
import subprocess
import sys
from pathlib import Path

# Limits every library to AVX2. Numba keeps the features of the processor at hand unless they are named too.
AVX2_ONLY = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx2,+fma,+bmi,+bmi2,+f16c,+lzcnt,+movbe,+popcnt,+sse4.2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "OPENBLAS_CORETYPE": "Haswell",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4,AVX512_ICL,AVX512_SPR",
}


def printed_by(expression: str, imports: str, environment: dict[str, str] = AVX2_ONLY) -> str:
    """What `expression` is in a process of its own, with names imported by the line `imports`, as str."""
    command = [sys.executable, "-c", f"{imports}; print({expression})"]
    root = Path(__file__).parents[1]
    ran = subprocess.run(command, cwd=root, env=os.environ | environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()
