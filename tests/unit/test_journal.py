"""The journal's directory: what is refused, and what is read again. That runs go on from it: tests/lifecycle."""

from __future__ import annotations

import re
import stat
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator import RLM, ConfigError, ContextError, Limits, ScriptedProvider, Strategy
from orchestrator.errors import LimitExceeded
from orchestrator.journal import Journal
from orchestrator.ledger import Ledger
from orchestrator.limits import Deadline
from orchestrator.providers.base import TokenUsage
from orchestrator.record_reader import read_record
from orchestrator.recorded import Charge
from orchestrator.trace import TraceEvent

SETTINGS = RLM(ScriptedProvider([], name="openai:m")).settings


def begin(directory: Path, context: Any = "the text", files: tuple[str, ...] = ()) -> Journal:
    return Journal.create(directory, question="What?", context=context, settings=SETTINGS, files=files)


def start(journal: Journal) -> None:
    journal.trace(TraceEvent(kind="run_start", t_s=0.0, facts={"root": "openai:m"}))


def test_it_is_for_its_owner_alone_and_keeps_a_context_that_no_file_has(tmp_path: Path) -> None:
    context = {"a": ["\ud800", 1.5], "b": None}
    journal = begin(tmp_path / "new" / "j", context)
    journal.close()
    assert stat.S_IMODE((tmp_path / "new" / "j").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new" / "j").iterdir()} == {0o600}
    opened = Journal.open(tmp_path / "new" / "j")
    assert opened.context() == context
    opened.close()
    (tmp_path / "new" / "j" / "context.json").write_text('"another"')
    opened = Journal.open(tmp_path / "new" / "j")
    with pytest.raises(ConfigError, match="is not the context that the journal was begun with"):
        opened.context()
    opened.close()


def test_files_are_read_again_and_must_be_as_they_were(tmp_path: Path) -> None:
    document = tmp_path / "d.txt"
    document.write_text("one")
    begin(tmp_path / "j", "one", (str(document),)).close()
    assert not (tmp_path / "j" / "context.json").exists()
    opened = Journal.open(tmp_path / "j")
    assert opened.context() == "one"
    document.write_text("two")
    with pytest.raises(ConfigError, match=r"d\.txt: has changed"):
        opened.context()
    document.unlink()
    with pytest.raises(ContextError, match=r"d\.txt: can't be read"):
        opened.context()
    opened.close()


def test_one_directory_has_one_run_and_one_process_at_a_time(tmp_path: Path) -> None:
    journal = begin(tmp_path / "j")
    with pytest.raises(ConfigError, match="has a journal already"):
        begin(tmp_path / "j")
    with pytest.raises(ConfigError, match="is in use"):
        Journal.open(tmp_path / "j")
    journal.close()
    Journal.open(tmp_path / "j").close()


def test_other_models_are_not_the_same_run(tmp_path: Path) -> None:
    journal = begin(tmp_path / "j")
    journal.check(RLM(ScriptedProvider([], name="openai:m"), max_iterations=3).settings)
    with pytest.raises(ConfigError, match="root: 'openai:n' is not what the journal was begun with: 'openai:m'"):
        journal.check(RLM(ScriptedProvider([], name="openai:n")).settings)
    with pytest.raises(ConfigError, match=r"strategies: .*Be brief.* is not what the journal was begun with"):
        journal.check(RLM(ScriptedProvider([], name="openai:m"), strategies=[Strategy(note="Be brief.")]).settings)
    journal.close()


@pytest.mark.parametrize(
    ("about", "said"),
    [
        (None, "is no journal: run.json: No such file"),
        ("{", "is no journal: run.json: is not JSON"),
        ("[]", "the format is None"),
        ('{"format": "airlock-journal/9"}', "the format is 'airlock-journal/9'"),
        ('{"format": "airlock-journal/1", "question": "q"}', "models, settings, context, command is missing"),
    ],
)
def test_what_is_no_journal_is_refused(about: str | None, said: str, tmp_path: Path) -> None:
    if about is not None:
        (tmp_path / "run.json").write_text(about)
    with pytest.raises(ConfigError, match=re.escape(said)):
        Journal.open(tmp_path)


def test_a_changed_line_is_refused_and_a_cut_one_left_out(tmp_path: Path) -> None:
    journal = begin(tmp_path / "j")
    start(journal)
    journal.note("permit", permit=1, run=0, sub_call=True, tokens=10, usd="0.5", sent_bytes=3)
    journal.close()
    file = tmp_path / "j" / "journal.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:20])
    opened = Journal.open(tmp_path / "j")
    assert file.read_bytes() == whole
    assert opened.record.charges[1].usd == Decimal("0.5")
    opened.close()
    file.write_bytes(whole.replace(b'"tokens": 10', b'"tokens": 11') + whole)
    with pytest.raises(ConfigError, match="line 3 does not follow line 2"):
        read_record(file)


def test_a_line_that_lacks_something_is_named(tmp_path: Path) -> None:
    journal = begin(tmp_path / "j")
    start(journal)
    journal.note("permit", permit=1, run=0)
    journal.close()
    with pytest.raises(ConfigError, match=r"line 2 \('permit'\) is not complete: KeyError\('tokens'\)"):
        Journal.open(tmp_path / "j")


def test_no_key_stands_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator import OpenAIInterface

    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    settings = RLM(OpenAIInterface("m", api_key="sk-given")).settings
    Journal.create(tmp_path / "j", question="q", context="c", settings=settings).close()
    assert not any(b"sk-" in path.read_bytes() for path in (tmp_path / "j").iterdir())


def charge(*, tokens: int, usd: str, sub_call: bool = True) -> Charge:
    usage = TokenUsage(input_tokens=tokens, output_tokens=0)
    return Charge(run=0, sub_call=sub_call, usage=usage, usd=Decimal(usd), sent_bytes=7)


async def test_what_an_earlier_life_spent_is_held_back_until_it_is_charged_again() -> None:
    ledger = Ledger(Limits(max_sub_calls=3, max_tokens=100, max_cost_usd=Decimal(1)))
    spent = [charge(tokens=30, usd="0.3"), charge(tokens=30, usd="0.3")]
    for one in spent:
        ledger.foresee(one)
    assert ledger.left()["sub_calls"] == 3, "a cell that asks is told what it was told then"
    with pytest.raises(LimitExceeded, match="40 of 100 are left"):
        ledger.check(41, sub_call=True)
    with pytest.raises(LimitExceeded, match=r"0\.40"):
        ledger.check(1, sub_call=True, most_usd=Decimal("0.41"))
    ledger.charge_recorded(spent[0], sub_call=True)
    assert (ledger.sub_calls, ledger.spent_tokens, ledger.sent_bytes, ledger.spent_usd) == (1, 30, 7, Decimal("0.3"))
    with pytest.raises(LimitExceeded, match="40 of 100 are left"):
        ledger.check(41, sub_call=True)
    await ledger.reserve(tokens=40, sub_call=True, most_usd=Decimal("0.4"), until=Deadline(1))
    with pytest.raises(LimitExceeded, match="3 of 3 sub-calls used"):
        ledger.check(0, sub_call=True)


async def test_the_time_of_earlier_lives_counts() -> None:
    assert Ledger(Limits(max_wall_s=100), spent_s=99.0).deadline.remaining_s <= 1.0
    with pytest.raises(LimitExceeded, match="s are over"):
        Ledger(Limits(max_wall_s=100), spent_s=100.0).check(sub_call=False)
