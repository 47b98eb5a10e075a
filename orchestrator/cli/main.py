"""The `airlock` command: reads the arguments, runs `ask` or `demo`, and turns what went wrong into a line and a code.

Only what every start needs is imported at the top, so that `airlock --help` answers at once. argparse and not a
library: it loads in 10 ms, where typer takes 100 to 300.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Final, NoReturn

from orchestrator.cli import commands
from orchestrator.cli.exits import ExitCode, exit_code_of_error
from orchestrator.cli.messages import UsageError, say
from orchestrator.cli.options import ask_parser

_DISTRIBUTION: Final = "rlm-airlock"

USAGE: Final = """\
usage: airlock ask FILE... "question" --model openai:NAME
       airlock demo
       airlock resume DIR | replay DIR
       airlock verify TRACE | export TRACE | schema NAME
       airlock doctor | reap | clean
       airlock --version | --help

Answers questions about long documents from strangers. A language model writes code that
works on the document inside a locked container without a network.

commands:
  ask     ask one question about one or more text files (airlock ask --help)
  demo    the same on a made-up document of 8 MB, with a scripted model; needs no key
  doctor  start a box and show which of its locks hold on this machine
  resume  go on with a killed run that kept a journal (airlock ask --journal DIR)
  replay  run a journal again with no model, and show where its cells' output differs
  verify  check that a run's trace was not changed
  export  write a trace in the format of another program
  schema  print the JSON schema of our own files
  reap    remove what killed runs have left
  clean   the same and old images; with --all everything of Airlock
"""


class _Terminated(KeyboardInterrupt):
    """SIGTERM came. It ends a run as Ctrl-C does."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: What follows `airlock`; None: this process's own.

    Returns:
        The exit code, one of `ExitCode`.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _sigterm_as_ctrl_c():
            return _dispatch(given)
    except KeyboardInterrupt as stop:
        terminated = isinstance(stop, _Terminated)
        say(f"stopped by {'SIGTERM' if terminated else 'Ctrl-C'}")
        return _leave_now(ExitCode.TERMINATED if terminated else ExitCode.INTERRUPTED)
    except BrokenPipeError:
        _forget_stdout()
        return ExitCode.READER_GONE
    except Exception as error:  # noqa: BLE001 - the last resort of a command is a line and a code
        return _failed(error)


def _dispatch(given: list[str]) -> int:
    command = given[0] if given else "--help"
    if command in ("--help", "-h", "help"):
        sys.stdout.write(USAGE)
        return ExitCode.ANSWERED if given else ExitCode.USAGE
    if command == "--version":
        sys.stdout.write(f"airlock {_version()}\n")
        return ExitCode.ANSWERED
    if command == "ask":
        options = _parsed(ask_parser(_Parser), given[1:])
        from orchestrator.cli.ask import ask

        return ask(options)
    if command == "demo":
        _parsed(_Parser(prog="airlock demo", description=DEMO, allow_abbrev=False), given[1:])
        from orchestrator.cli.demo import demo

        return demo()
    if command not in commands.NAMES:
        known = ", ".join(["ask", "demo", *commands.NAMES, "--version", "--help"])
        raise UsageError(f"{command!r} is no command; there are: {known}")
    make_parser, run = commands.command(command)
    return run(_parsed(make_parser(_Parser), given[1:]))


DEMO: Final = (
    "Runs the main job on a made-up document of 8 MB with a hostile text in it. The root model is a script; the "
    "sub-questions go to a tiny real model on this machine, or to a script where MODEL=script is set or the model is "
    "not installed."
)


class _Parser(argparse.ArgumentParser):
    """Raises instead of leaving the process, so that all errors look the same."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} ({self.prog} --help)")


def _parsed(parser: argparse.ArgumentParser, given: Sequence[str]) -> argparse.Namespace:
    """Options may stand between the files and the question; what follows ``--`` is no option.

    Raises:
        UsageError: An option is a file's name too. Whoever sends documents names them, and ``*`` makes a
            ``--sub-model=scripted:letter.txt`` among them an argument, which would run the letter.
    """
    end = given.index("--") if "--" in given else len(given)
    for word in given[:end]:
        if word.startswith("-") and word != "-" and os.path.lexists(word):
            raise UsageError(f"{word!r:.80} is an option, and a file here. Write ./ before files, or -- before all")
    parsed = parser.parse_intermixed_args(given[:end])
    if given[end + 1 :]:
        parsed.words = [*getattr(parsed, "words", ()), *given[end + 1 :]]
    return parsed


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(_DISTRIBUTION)
    except PackageNotFoundError:
        return "(not installed: running from a checkout)"


def _failed(error: Exception) -> int:
    if isinstance(error, UsageError):
        say(str(error))
        return ExitCode.USAGE
    if os.environ.get("AIRLOCK_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    code = exit_code_of_error(error)
    if code is ExitCode.INTERNAL:
        say(f"failed: {type(error).__name__}: {error} (set AIRLOCK_DEBUG=1 to see where)")
    else:
        say(str(error))
    return code


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """SIGTERM raises where Ctrl-C would, so that the box is removed and nothing of the document stays."""

    def terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise _Terminated

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not the main thread: somebody else's process, and its signals are its own
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave_now(code: ExitCode) -> int:
    """Leave without waiting for threads: one may be building an image, and nobody waits for it any more."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    atexit._run_exitfuncs()  # the content store removes itself there
    os._exit(code)


def _forget_stdout() -> None:
    """Python flushes stdout once more at its end, and would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
