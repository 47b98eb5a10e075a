#!python
"""The `airlock` command as the wheel installs it: checks the installation, then runs the command.

A script of its own and not an entry point, because an entry point begins with `import orchestrator`, and where that
name is somebody else's package, Python only says that `orchestrator.cli` is missing.
"""

from __future__ import annotations

import sys

EXIT_BAD_USAGE = 2
EXIT_INTERRUPTED = 130


def intruder() -> str | None:
    """What is wrong with the two packages, or None."""
    try:
        from orchestrator.cli.installation import check_installation
        from orchestrator.errors import ConfigError
    except ImportError as error:
        if not (error.name or "").startswith("orchestrator"):
            raise
        import importlib.util

        spec = importlib.util.find_spec("orchestrator")
        places = [*(spec.submodule_search_locations or ()), spec.origin] if spec else []
        return (
            f"The package `orchestrator` is not Airlock's: Python finds {places[0] if places else 'none'}. "
            "Take it off PYTHONPATH, or install Airlock into an environment of its own."
        )
    try:
        check_installation()
    except ConfigError as error:
        return str(error)
    return None


def start() -> int | None:
    """Run the command; its own exit code, or that of bad usage or of Ctrl-C, which may come while imports run."""
    try:
        return run()
    except KeyboardInterrupt:
        sys.stderr.write("airlock: interrupted\n")
        return EXIT_INTERRUPTED


def run() -> int | None:
    """Check, import and run."""
    problem = intruder()
    if problem:
        sys.stderr.write(f"airlock: {problem}\n")
        return EXIT_BAD_USAGE
    from orchestrator.cli.main import main

    return main()


if __name__ == "__main__":
    sys.exit(start())
