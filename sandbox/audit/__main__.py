"""``python -m sandbox.audit --markdown``: the table of all controls, as it stands in SECURITY.md.

With ``--write FILE`` the table is put between the two marks in that file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from sandbox.audit.controls import CONTROLS, Control
from sandbox.audit.evidence import Evidence
from sandbox.runtimes import GVISOR, Runtime
from sandbox.spec import SandboxSpec

BEGIN: Final = "<!-- controls: made by python -m sandbox.audit --markdown -->"
END: Final = "<!-- end of controls -->"
_SOURCES: Final = {"inspect": "the engine's record", "proc": "the kernel", "runtime": "the engine's runtime"}


def markdown() -> str:
    """The table; limits are those of the default `SandboxSpec`."""
    rows = ["| setting | read at | from | must be | under gVisor |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*rows, *(_row(control) for control in CONTROLS)])


def _row(control: Control) -> str:
    name = GVISOR if control.only == "gvisor" else "the engine's default"
    expected = control.expected(_default_box(Runtime(name=name)))
    bound = "at most " if control.at_most else ""
    shown = f"{expected:,}" if isinstance(expected, int) and not isinstance(expected, bool) else expected
    under = "not checked" if control.gvisor else "only there" if control.only == "gvisor" else "checked"
    note = f" ({control.note})" if control.note else ""
    return f"| {control.setting} | {control.name} | {_SOURCES[control.source]} | {bound}{shown}{note} | {under} |"


def _default_box(runtime: Runtime) -> Evidence:
    return Evidence(
        spec=SandboxSpec(), image="", context_dir="", seccomp="seccomp=", label="", runtime=runtime, inspect={}
    )


def put_between_marks(text: str) -> str:
    """A document with the table in its place.

    Raises:
        ValueError: It has not both marks, in this order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document lacks {BEGIN} or {END} behind it")
    return f"{before}{BEGIN}\n{markdown()}\n{END}{after}"


def main() -> int:
    """Print or write the table."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.audit", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--markdown", action="store_true", help="print the table")
    what.add_argument("--write", metavar="FILE", type=Path, help="put it between the marks in FILE")
    options = parser.parse_args()
    if options.write:
        options.write.write_text(put_between_marks(options.write.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        sys.stdout.write(markdown() + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
