"""What the SDK imports and a model server never uses, not before somebody uses it.

pandas serves a DataFrame codec (43 MiB, a quarter of a second of the start), the Kubernetes client
an API client (20 MiB). A transformer without both needs 90 MiB instead of 150. The stand-ins turn
into the real thing at the first use, so nothing that needs it can tell.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any, ClassVar


class _Deferred(ModuleType):
    """A module that is imported at its first real use."""

    CLASSES: ClassVar[tuple[str, ...]]
    """Classes that may be named before that, in annotations and `isinstance` checks."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the import system asks of any module
            raise AttributeError(name)
        if name in self.CLASSES:
            stand_in = _stand_in(self.__name__, name)
            setattr(self, name, stand_in)
            return stand_in
        return getattr(_load(self.__name__), name)


class _Pandas(_Deferred):
    CLASSES = ("DataFrame",)


class _KServeClient(_Deferred):
    CLASSES = ("KServeClient",)


def defer_unused() -> None:
    """Let the SDK's imports succeed without loading them. To be called before `import kserve`."""
    for module in (_Pandas("pandas"), _KServeClient("kserve.api.kserve_client")):
        sys.modules.setdefault(module.__name__, module)


def _stand_in(module: str, name: str) -> type:
    """A class of which, while it stands here, no instance exists; calling it makes a real one."""

    def construct(_cls: type, *args: Any, **kwargs: Any) -> Any:
        return getattr(_load(module), name)(*args, **kwargs)

    return type(name, (), {"__new__": construct})


def _load(name: str) -> ModuleType:
    if isinstance(sys.modules.get(name), _Deferred):
        del sys.modules[name]
    return importlib.import_module(name)
