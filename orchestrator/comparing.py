"""Whether a journal's run happens once more: its cells in a real box, with every reply from the record and no model."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.documents import documents_of
from orchestrator.errors import ConfigError, Diverged, RecordOver, RLMError
from orchestrator.limits import UNLIMITED, Limits
from orchestrator.recorded import Place
from orchestrator.recorder import Recorder
from orchestrator.rlm import RLM
from orchestrator.run import Run
from orchestrator.strategies import Strategy
from sandbox.spec import Isolation, SandboxSpec

if TYPE_CHECKING:
    from orchestrator.journal import Journal
    from orchestrator.providers.base import ModelReply, ModelRequest
    from orchestrator.recorded import Record
    from orchestrator.trace import TraceEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A cell that did something else than is recorded.

    Attributes:
        run: Number of its run; 0 is the first.
        turn: Its turn.
        cell: The turn's cell.
        what: ``status``, ``error`` or ``output``.
        recorded: What that was.
        now: What it is. Both are a box's words.
    """

    run: int
    turn: int
    cell: int
    what: str
    recorded: str
    now: str


@dataclass(slots=True)
class Comparison:
    """What came of it.

    Attributes:
        cells: Cells that ran and that a record is of.
        left_out: Cells that cost their box when they were recorded, and did not run again.
        differences: Of the cells, the first of each.
        problem: Why the run could not go on as it is recorded, or None.
    """

    cells: int = 0
    left_out: int = 0
    differences: list[Difference] = field(default_factory=list)
    problem: RLMError | None = None

    @property
    def same(self) -> bool:
        """Whether everything happened as it is recorded."""
        return not self.differences and self.problem is None


class NoModel:
    """Stands for a model that is not asked."""

    max_output_tokens = 0

    def __init__(self, name: str) -> None:
        self.name = name

    async def complete(self, request: ModelRequest) -> ModelReply:
        """It is not asked."""
        raise RuntimeError("a run that is compared asks no model")


async def compare(journal: Journal, *, isolation: Isolation | None = None) -> Comparison:
    """Run it. Whatever cells print of time, chance or IDs differs by nature.

    Args:
        journal: Opened to compare.
        isolation: Least isolation to accept, instead of the journal's word for it.

    Raises:
        ConfigError: The journal lacks something, or the context has changed.
        ContextError: It can't be read.
        BoxError: No engine, no image, or the box failed.
    """
    settings = _rlm_of(journal, isolation).settings
    context = journal.context()
    found = Comparison()
    watcher = _Watcher(journal.record, found)
    recorder = Recorder([watcher], output_chars=settings.limits.max_output_chars)
    run = Run(settings, journal.about["question"], context, documents_of(context), recorder, journal=journal)
    try:
        await run.run()
    except RecordOver:
        pass
    except Diverged as error:
        found.problem = error
    return found


class _Watcher:
    """Compares each cell that ends with its record."""

    def __init__(self, record: Record, found: Comparison) -> None:
        self._record = record
        self._found = found

    def __call__(self, event: TraceEvent) -> None:
        if event.kind != "cell":
            return
        run, turn, cell = (int(event.facts.get(name, 0)) for name in ("run", "turn", "cell"))
        recorded = self._record.run(run).cells.get(Place(turn, cell))
        if recorded is None or recorded.status is None:
            return
        if recorded.status == "lost":
            self._found.left_out += 1
            return
        self._found.cells += 1
        now = {
            "status": str(event.facts["status"]),
            "error": event.texts.get("error", ""),
            "output": event.texts.get("output", ""),
        }
        then = {"status": recorded.status, "error": recorded.error or "", "output": recorded.output}
        for what, text in then.items():
            if text != now[what]:
                difference = Difference(run=run, turn=turn, cell=cell, what=what, recorded=text, now=now[what])
                self._found.differences.append(difference)
                return


def _rlm_of(journal: Journal, isolation: Isolation | None = None) -> RLM:
    models, kept = journal.about["models"], journal.about["settings"]
    try:
        named = {name: NoModel(str(model)) for name, model in kept["sub_llms"].items()}
        return RLM(
            NoModel(models["root"]),
            NoModel(models["sub"] or models["root"]),
            sub_llms=named or None,
            strategies=[_strategy(one) for one in models["strategies"]],
            prompt_mode=models["prompt_mode"],
            observe=models["observe"],
            limits=Limits(**{name: _limit(value) for name, value in kept["limits"].items() if name != "max_cost_usd"}),
            sandbox=SandboxSpec(isolation=isolation or kept["isolation"], image=kept["image"]),
            setup_code=kept["setup_code"],
            on_depth_limit=kept["on_depth_limit"],
            on_kill=kept["on_kill"],
            output_schema=json.loads(kept["output_schema"]) if kept["output_schema"] else None,
        )
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{str(journal.directory)!r}: run.json is not complete: {error!r:.80}") from error


def _strategy(kept: dict[str, Any]) -> Strategy:
    root = None if kept["root"] is None else NoModel(str(kept["root"]))
    return Strategy(root_llm=root, prompt_mode=kept["prompt_mode"], note=kept["note"])


def _limit(value: Any) -> Any:
    return UNLIMITED if value == "unlimited" else value
