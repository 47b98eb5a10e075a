"""Extra modules of the user's, which the host has put beside the contexts, read-only."""

import importlib.util
import sys


def open_modules(folder: str, names: list[str]) -> None:
    """Let cells import them.

    Raises:
        ValueError: A module of that name is in the box already.
    """
    for name in names:
        if importlib.util.find_spec(name) is not None:
            raise ValueError(f"the box has a module of the name {name!r} already")
    if names:
        sys.path.append(folder)  # last, so that nothing in it stands before a module of the box's
