"""How the compiled loops are compiled, and kept on disk."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache

_FOLDER = Path(__file__).parent
_SOURCES = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(_FOLDER.glob("*.py")))).hexdigest()


class _Cache(FunctionCache):
    """Numba's cache, which looks at the file of a function; this looks at the whole folder that it calls others in.

    Files that cannot be read are compiled again, and it is no error that files cannot be written.
    """

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), _SOURCES)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except OSError:
            return None
        except Exception:  # a file is cut short, and pickle may raise anything
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _warn(f"{error.strerror}: {self.cache_path}")


def _warn(reason: object) -> None:
    warnings.warn(
        "the compiled loops of diffplast cannot be kept on disk, so that each process compiles them again; set "
        f"NUMBA_CACHE_DIR to a folder that can be written to ({reason})",
        stacklevel=2,
    )


part = njit(nogil=True, error_model="numpy", forceinline=True)
"""Compiles a function that others of this folder call; the compiler puts it in its place."""


def kernel(function: Callable) -> Any:
    """Compile a function at its first call, without the interpreter lock, and keep it on disk.

    Nothing here allows sums to be reordered or a product and a sum to be fused: the bits are those of the source.
    """
    dispatcher = njit(nogil=True, error_model="numpy")(function)
    try:
        dispatcher._cache = _Cache(dispatcher.py_func)
    except RuntimeError:  # neither the folder of the package nor the user's can be written to
        _warn("there is none")
    return dispatcher
