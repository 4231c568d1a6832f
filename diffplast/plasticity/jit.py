"""How the compiled loops are compiled, and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache

_FOLDER = Path(__file__).parent
_SOURCES = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(_FOLDER.glob("*.py")))).hexdigest()


class _Cache(FunctionCache):
    """Numba looks at the file of a function, not at the files of what it calls; this looks at the whole folder."""

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), _SOURCES)


part = njit(nogil=True, error_model="numpy", forceinline=True)
"""Compiles a function that others of this folder call; the compiler puts it in its place."""


def kernel(function: Callable) -> Any:
    """Compile a function at its first call, without the interpreter lock, and keep it on disk.

    Nothing here allows sums to be reordered or a product and a sum to be fused: the bits are those of the source.
    """
    dispatcher = njit(nogil=True, error_model="numpy")(function)
    dispatcher._cache = _Cache(dispatcher.py_func)
    return dispatcher
