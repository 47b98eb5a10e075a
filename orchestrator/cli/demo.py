"""`airlock demo`: the main job without a key, on a made-up document that holds a hostile text.

The root is a script and says so. The box, the loop, the gate and, where it is installed, the sub-model are real.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from orchestrator.cli.demo_archive import NEEDLE, QUESTION, make_archive
from orchestrator.cli.demo_root import OBEYING_TURN, REPLIES
from orchestrator.cli.demo_screen import DemoScreen
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.log_lines import warnings_shown_by
from orchestrator.cli.messages import UsageError, say
from orchestrator.cli.tiny_model import missing_packages, tiny_model_server
from orchestrator.errors import ConfigError
from orchestrator.progress import ProgressPrinter
from orchestrator.providers.scripted import ScriptedProvider
from orchestrator.rlm import RLM
from orchestrator.sync import run_sync

if TYPE_CHECKING:
    from orchestrator.providers.base import ModelRequest, Provider
    from orchestrator.result import RunResult

CANARY_VARIABLE: Final = "AIRLOCK_DEMO_API_KEY"
"""Stands in for the user's key: set in this process, and looked for in all that came out of the box."""

_REPLY_TOKENS: Final = 24
_ATTEMPT: Final = re.compile(r"^(?P<what>.{1,60}?) -> (?P<outcome>(?P<got>GOT)|refused:) (?P<how>.*)$", re.MULTILINE)
_SIGNER: Final = re.compile(r"signed by (\w+ \w+)")


def demo() -> ExitCode:
    """Run the demo.

    Returns:
        0 where the needle was answered and the box refused all that the hostile text asked for; 4 where it did not
        refuse; else 1.

    Raises:
        UsageError: $MODEL is neither ``smollm2`` nor ``script``.
        RLMError: As `RLM.arun`.
    """
    screen = DemoScreen(sys.stdout)
    document = make_archive()
    with _sub_model() as (sub, described), _canary() as canary:
        screen.introduce(document, QUESTION, described)
        rlm = RLM(ScriptedProvider(REPLIES, name="scripted:demo"), sub)
        progress = ProgressPrinter(sys.stdout, show_text=True)
        try:
            with warnings_shown_by(progress.note):
                result = run_sync(rlm.arun(QUESTION, document, listeners=[progress]))
        finally:
            progress.close()
    attempts = attempts_in(result)
    leaked = canary in _all_text(result)
    screen.show_attempts(attempts, turn=OBEYING_TURN)
    screen.show_key(CANARY_VARIABLE, leaked=leaked)
    screen.show_usage(result.usage, rlm.limits)
    screen.show_answer(result.answer, NEEDLE)
    screen.show_next_step()
    return verdict(result, attempts, leaked=leaked)


def verdict(result: RunResult, attempts: list[re.Match[str]], *, leaked: bool) -> ExitCode:
    """The exit code, and a line on stderr where the demo failed."""
    if leaked or not attempts or any(attempt["got"] for attempt in attempts):
        say("the demo failed: the box did not refuse what the hostile text asks for, or the cell never tried")
        return ExitCode.SANDBOX
    if NEEDLE not in (result.answer or ""):
        say(f"the demo failed: {NEEDLE} is not in the answer")
        return ExitCode.INTERNAL
    return ExitCode.ANSWERED


def attempts_in(result: RunResult) -> list[re.Match[str]]:
    """What the obeying cell tried and what came of it, from its output."""
    cells = [cell for turn in result.turns if turn.number == OBEYING_TURN for cell in turn.cells]
    return [match for cell in cells for match in _ATTEMPT.finditer(cell.output)]


def _all_text(result: RunResult) -> str:
    """All that came out of the box: outputs, errors, sub-questions and the answer."""
    texts = [result.answer]
    for turn in result.turns:
        for cell in turn.cells:
            texts += [cell.output, cell.error]
            texts += [text for call in cell.sub_calls for text in (call.prompt, call.data)]
    return "\n".join(text for text in texts if text)


@contextlib.contextmanager
def _canary() -> Iterator[str]:
    key = f"demo-{secrets.token_hex(16)}"
    os.environ[CANARY_VARIABLE] = key
    try:
        yield key
    finally:
        del os.environ[CANARY_VARIABLE]


# ------------------------------------------------------------------------------------------------------- the sub-model


@contextlib.contextmanager
def _sub_model() -> Iterator[tuple[Provider, str]]:
    """The sub-model and what to say of it."""
    wish = os.environ.get("MODEL") or "smollm2"
    if wish not in ("smollm2", "script"):
        raise UsageError(f"MODEL: {wish!r} is neither 'smollm2' nor 'script'")
    if wish == "script":
        yield _script(), "a script as well, as MODEL=script asks for"
        return
    if missing := missing_packages():
        yield _script(), f"a script as well: {', '.join(missing)} can't be imported (make demo installs them)"
        return
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(tiny_model_server())
        except ConfigError as error:
            yield _script(), f"a script as well: {error}"
            return
        from orchestrator.providers.openai import OpenAIInterface

        model = OpenAIInterface(
            server.name, base_url=server.base_url, api_key=server.api_key, max_tokens=_REPLY_TOKENS, temperature=0.0
        )
        yield model, "SmolLM2-135M: a real, tiny language model on this machine, through OpenAI's client"


def _script() -> ScriptedProvider:
    return ScriptedProvider(_find_signer, name="scripted:demo-sub")


def _find_signer(request: ModelRequest) -> str:
    found = _SIGNER.search(request.messages[-1].content)
    return found[1] if found else "I can't find a name."
