"""pandas, not before somebody uses it.

The SDK imports pandas for a DataFrame codec that a server of tensors never calls: 43 MiB of a
transformer's 145, and a quarter of a second of its start. This stands in for it and turns into the
real library at the first use, so nothing that needs pandas can tell.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class _DeferredDataFrame:
    """Stands in annotations and `isinstance` checks; while it does, no DataFrame exists."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return _load().DataFrame(*args, **kwargs)


class _DeferredPandas(ModuleType):
    DataFrame = _DeferredDataFrame

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the import system asks of any module
            raise AttributeError(name)
        return getattr(_load(), name)


def defer_pandas() -> None:
    """Let `import pandas` succeed without loading it. To be called before `import kserve`."""
    if "pandas" not in sys.modules:
        sys.modules["pandas"] = _DeferredPandas("pandas")


def _load() -> ModuleType:
    if isinstance(sys.modules.get("pandas"), _DeferredPandas):
        del sys.modules["pandas"]
    return importlib.import_module("pandas")
