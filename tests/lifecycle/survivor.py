"""A run with a journal that kills itself behind a line of it, and is gone on with, for `tests.lifecycle.test_resume`.

    python -m tests.lifecycle.survivor PLAN DIRECTORY LINE ask|resume [allow] [more]

LINE counts the lines that this life writes, or as ``KIND:NUMBER`` those of a kind; 0 kills nothing. With ``more``
the root is shown more of each output than in other lives. The models are scripts that write each call into
DIRECTORY.calls before they reply. The last line of stdout is the result, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

from orchestrator import RLM, Limits, RLMError, ScriptedProvider, Strategy
from orchestrator.errors import Diverged
from orchestrator.journal import JournalFile
from orchestrator.providers.base import ModelRequest

CONTEXT: Final = "alpha\nbravo\ncharlie\ndelta\n" * 20

_TURNS: Final = {
    "turns": [
        "```repl\nparts = context.split()[:4]\nn = len(context)\nprint(n)\n```",
        "```repl\nfirst = llm_query('What is first?', data=parts[0])\nprint(first, budget()['sub_calls'])\n```",
        (
            "```repl\nrest = llm_query_batched([f'What is {part}?' for part in parts])\n```\n"
            "```repl\nprint(rest, sorted(set(rest)))\n```"
        ),
        "```repl\nlast = llm_query('What is first?', data=parts[0])\nFINAL(f'{n} {first} {rest} {last}')\n```",
    ],
    "children": [
        (
            "```repl\nparts = context.split()[:3]\n"
            "got = rlm_query_batched([f'Count in {part}' for part in parts], parts)\nprint(got)\n```"
        ),
        "```repl\none = rlm_query('Count deep', {'a': 'x' * 10})\nFINAL(str((got, one)))\n```",
    ],
    "killed box": [
        "```repl\nfirst = llm_query('one')\n```",
        "```repl\nllm_query('two')\nimport os\nos.kill(os.getpid(), 9)\n```",
        "```repl\nthird = llm_query('three')\n```",
        "```repl\nFINAL(str((third, 'first' in dir())))\n```",
    ],
    "random": [
        "```repl\nimport time\nsaid = llm_query('What?', data=str(time.time_ns()))\n```",
        "```repl\nFINAL(said)\n```",
    ],
    "refused": [
        (
            "```repl\nsaid = llm_query_batched([f'q{i}' for i in range(6)], return_exceptions=True)\n"
            "print([str(one) for one in said])\n```"
        ),
        "```repl\nFINAL(str([str(one) for one in said]))\n```",
    ],
}
_CHILD: Final = [
    "```repl\nsize = len(context)\nhelp = llm_query(f'Help with {size}')\n```",
    "```repl\nFINAL(f'{size} {help}')\n```",
]
_GRANDCHILD: Final = "```repl\nFINAL(rlm_query('Count in it', list(context)))\n```"
_PART: Final = (
    "```repl\nn = globals().get('n', 0) + 1\nhelps = globals().get('helps', []) + [llm_query(f'Help with {n}')]\n"
    "print('x' * 5000)\nprint(f'part {n} is done')\n```"
)
"""One cell for all turns of a root that reads in its last message how far it is: its conversation is summed up."""
_PARTS: Final = 6
_SUM_UP: Final = "getting too long for you"
_STUCK: Final = "```repl\nn = 1\nhelp = llm_query('Help me')\n```"
LIMITS: Final[dict[str, dict[str, Any]]] = {
    "children": {"max_depth": 4},
    "refused": {"max_sub_calls": 4},
    "summed up": {"max_output_chars": 2_000},
    "strategies": {"max_idle_turns": 2},
}
SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "restored box": {"on_kill": "replay"},
    "summed up": {"root_window_tokens": 9_000},
}
PLANS: Final = (*_TURNS, *SETTINGS, "strategies")


class Models:
    """The root and the sub-model of a plan. Each call is one line of a file."""

    def __init__(self, plan: str, calls: Path) -> None:
        self._plan = plan
        self._turns = _TURNS.get(plan) or _TURNS["killed box"]
        self._calls = calls
        self.root = ScriptedProvider(self._root, name="scripted:root", max_output_tokens=500)
        self.second = ScriptedProvider(self._second, name="scripted:second")
        self.sub = ScriptedProvider(self._sub, name="scripted:sub")

    def _called(self, what: str) -> None:
        with self._calls.open("a") as file:
            file.write(what + "\n")

    async def _root(self, request: ModelRequest) -> str:
        replies = sum(message.role == "assistant" for message in request.messages)
        asked = request.messages[1].content
        self._called(f"root {replies}")
        await asyncio.sleep(0.01)
        if self._plan == "summed up":
            return _reads_on(request.messages[-1].content)
        if self._plan == "strategies":
            return _STUCK
        if "Count deep" in asked:
            return _GRANDCHILD
        return (_CHILD if "Count in" in asked else self._turns)[replies]

    async def _second(self, request: ModelRequest) -> str:
        self._called("second")
        return "```repl\nFINAL(f'{n} {help}')\n```"

    async def _sub(self, request: ModelRequest) -> str:
        asked = request.messages[-1].content.splitlines()[-1]
        self._called(f"sub {asked}")
        await asyncio.sleep(0.02 * (1 + len(asked) % 3))
        return f"<{asked}>"


def _reads_on(told: str) -> str:
    """A reply of the root whose conversation is summed up."""
    if _SUM_UP in told:
        return "The answers are in `helps`."
    return "```repl\nFINAL(str(helps))\n```" if f"part {_PARTS} is done" in told else _PART


def _killed_behind(line: str) -> None:
    """Let SIGKILL end this process when so many lines are written."""
    kind, _, number = line.rpartition(":")
    written = 0
    write = JournalFile._write

    def counted(self: JournalFile, record: dict[str, Any]) -> None:
        nonlocal written
        write(self, record)
        written += kind in ("", record["kind"])
        if written == int(number):
            os.kill(os.getpid(), signal.SIGKILL)

    JournalFile._write = counted  # type: ignore[method-assign]


def main(plan: str, directory: str, line: str, what: str, *allowed: str) -> None:
    """One life."""
    _killed_behind(line)
    models = Models(plan, Path(f"{directory}.calls"))
    more = {"max_output_chars": 4_000} if "more" in allowed else {}
    limits = Limits(**{"max_sub_calls": 50, **LIMITS.get(plan, {}), **more})
    settings = SETTINGS.get(plan, {})
    if plan == "strategies":
        settings = {"strategies": [Strategy(root_llm=models.second, note="Be brief.")]}
    rlm = RLM(models.root, models.sub, limits=limits, journal_dir=directory, **settings)
    try:
        if what == "ask":
            result = asyncio.run(rlm.arun("What is it?", CONTEXT))
        else:
            result = asyncio.run(rlm.aresume(allow_divergence="allow" in allowed))
    except RLMError as error:
        texts = {"recorded": error.recorded, "asked": error.asked} if isinstance(error, Diverged) else {}
        sys.stdout.write(json.dumps({"error": type(error).__name__, "said": str(error), **texts}) + "\n")
        return
    usage = result.usage
    sys.stdout.write(
        json.dumps(
            {
                "answer": result.answer,
                "stop_reason": result.stop_reason,
                "calls": [usage.root_calls, usage.sub_calls],
                "tokens": usage.total_tokens,
                "estimated": usage.estimated_tokens,
                "turns": len(result.turns),
                "divergences": len(result.divergences),
            }
        )
        + "\n"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
