"""What a distribution's changelog says of an escape whose fix may have been put into an old version number.

Debian and Ubuntu name the CVE in the entry of the package that fixes it. The file tells of the package that is
installed here, so it is believed only where the engine is on this machine and names that very version.
"""

from __future__ import annotations

import dataclasses
import gzip
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sandbox.audit.escapes import UNKNOWN_BACKPORT, Judgement

DOC_DIR: Final = Path("/usr/share/doc")
_MAX_BYTES: Final = 16 << 20
_ENTRY: Final = re.compile(r"\S+ \((?:\d+:)?([^)\s]+)\) ")
_DISTRIBUTIONS: Final = ("debian", "ubuntu")


def ask_changelogs(
    judgements: Sequence[Judgement],
    info: Mapping[str, Any],
    versions: Mapping[str, tuple[str, str]],
    *,
    local: bool,
    doc_dir: Path = DOC_DIR,
) -> list[Judgement]:
    """The judgements, with those that a distribution's changelog decides decided, and for the others how to ask it.

    Args:
        judgements: Of one engine.
        info: Its description.
        versions: Of its components, each with the fuller form.
        local: Whether it is on this machine.
        doc_dir: Where packages have their changelogs.
    """
    if not str(info.get("OperatingSystem")).lower().startswith(_DISTRIBUTIONS):
        return list(judgements)
    asked = []
    for judgement in judgements:
        if judgement.reason == UNKNOWN_BACKPORT:
            known = versions.get(judgement.escape.component, ()) if local else ()
            asked.append(_asked(judgement, known, doc_dir))
        else:
            asked.append(judgement)
    return asked


def _asked(judgement: Judgement, known: Sequence[str], doc_dir: Path) -> Judgement:
    cve, component = judgement.escape.cve, judgement.escape.component
    package = "runc" if component == "runc" else f"linux-image-{re.sub('[^A-Za-z0-9.+~-]', '', judgement.version)}"
    file = doc_dir / package / "changelog.Debian.gz"
    # Not the kernel's: an upgraded package may wait for the next start of the machine.
    named = _names(file, cve, known) if component == "runc" else None
    if named:
        return dataclasses.replace(judgement, verdict="fixed", reason=f"by the Debian changelog {file}")
    if named is False:
        return dataclasses.replace(judgement, reason=f"below the fix, and {file} of this version does not name it")
    return dataclasses.replace(judgement, reason=f"{UNKNOWN_BACKPORT}: zgrep {cve} {file}")


def _names(file: Path, cve: str, known: Sequence[str]) -> bool | None:
    """Whether the changelog names the CVE; None where it is not that of one of these versions."""
    try:
        with gzip.open(file, "rt", encoding="utf-8", errors="replace") as lines:
            text = lines.read(_MAX_BYTES)
    except (OSError, EOFError):
        return None
    newest = _ENTRY.match(text)
    if newest is None or newest[1] not in known:
        return None
    return re.search(rf"\b{cve}\b", text) is not None
