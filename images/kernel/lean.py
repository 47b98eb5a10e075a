"""Keeps ipykernel and IPython from importing what no box uses: a third of a kernel's imports, in time and memory.

From the import of this module until `leave`, which the kernel calls before its first cell:

- a module that is used on occasions that a box does not have, or not before a cell asks, has a stand-in (`STAND_INS`).
  A name of it that is called, or looked into, imports the real module then;
- a package whose ``__init__`` only collects names is there without it (`PACKAGES`). The first look at a name that it
  lacks runs it;
- an optional module is declared missing (`MISSING`);
- nobody looks for garbage: what is imported stays.

Afterwards every ``import`` gives the real thing. What has taken a stand-in before keeps it.
"""

import gc
import importlib
import importlib.util
import logging
import sys
from datetime import datetime
from types import ModuleType
from typing import Any


class Never:
    """In the place of a class that has no instances in a box."""


class From(str):
    """Another module, which the name is imported from."""


def no_logger() -> logging.Logger:
    """What traitlets logs nobody reads."""
    logger = logging.getLogger("traitlets")
    logger.addHandler(logging.NullHandler())
    return logger


Names = dict[str, Any]
modules: dict[str, Any] = sys.modules

STAND_INS: dict[str, Names] = {
    "IPython.core.application": {"ProfileDir": From("IPython.core.profiledir")},
    "IPython.core.completer": {},
    "IPython.display": {"display": From("IPython.core.display_functions")},
    "dateutil.parser": {"isoparse": datetime.fromisoformat},  # of the date in a message's head
    "dateutil.tz": {},
    "hashlib": {},
    "hmac": {"HMAC": Never},
    "ipykernel.connect": {},
    "ipykernel.debugger": {"Debugger": Never, "_is_debugpy_available": False},
    "jupyter_core.paths": {},
    "packaging.version": {},
    "tempfile": {},
    "tornado.log": {"app_log": logging.getLogger("tornado.application")},
    "traitlets.config.application": {},
    "traitlets.log": {"get_logger": no_logger},
    "zmq.asyncio": {"Socket": Never},
}
PACKAGES: dict[str, Names] = {
    "ipykernel": dict.fromkeys(
        ("connect_qtconsole", "get_connection_file", "get_connection_info"), From("ipykernel.connect")
    ),
    "jupyter_client": {},
    "traitlets.config": {
        "Application": From("traitlets.config.application"),
        "Config": From("traitlets.config.loader"),
        "Configurable": From("traitlets.config.configurable"),
        "LoggingConfigurable": From("traitlets.config.configurable"),
    },
}
MISSING = ("ssl",)  # asyncio's TLS, then: a box has no network to use it on


class Later:
    """A name of a module that is imported when the name is used."""

    def __init__(self, module: str, name: str) -> None:
        self._place = module, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._real()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(), name)

    def _real(self) -> Any:
        module, name = self._place
        drop(module)
        return getattr(importlib.import_module(module), name)


class StandIn(ModuleType):
    """In the place of a module."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = STAND_INS[self.__name__].get(name, self)
        if isinstance(value, From):
            return getattr(importlib.import_module(value), name)
        return Later(self.__name__, name) if value is self else value


class Submodule(ModuleType):
    """A name of its package, as if somebody had imported it: stock kernels import these. The first look does."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


class Package(ModuleType):
    """A package whose ``__init__`` has not run yet."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in ("__all__", "__version__"):
            raise AttributeError(name)
        if module := PACKAGES[self.__name__].get(name):
            return getattr(importlib.import_module(module), name)
        self.__class__ = ModuleType  # type: ignore[assignment]
        loader: Any = self.__loader__
        loader.exec_module(self)
        return getattr(self, name)


def enter() -> None:
    gc.disable()
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and name not in modules:
            put(name, importlib.util.module_from_spec(spec))
            modules[name].__class__ = Package
    for name in STAND_INS:
        if name not in modules:
            put(name, StandIn(name))
    for name in MISSING:
        modules.setdefault(name, None)


def put(name: str, module: ModuleType) -> None:
    """Where ``import`` finds it, and as a name of its package."""
    modules[name] = module
    package, _, child = name.rpartition(".")
    if package in modules:
        setattr(modules[package], child, module)


def drop(name: str) -> None:
    """What stands where the real module will be."""
    if isinstance(modules.get(name), StandIn | None):
        modules.pop(name, None)


def leave() -> None:
    """Before the first cell."""
    for name in (*STAND_INS, *MISSING):
        drop(name)
        package, _, child = name.rpartition(".")
        if package in modules and child not in vars(modules[package]):
            setattr(modules[package], child, Submodule(name))
    gc.freeze()  # no collection in a cell looks at what is here already, and makes its pages the kernel's own
    gc.enable()


enter()
