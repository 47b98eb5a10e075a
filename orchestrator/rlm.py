"""`RLM`: ask a question about a context of any length, answered from inside a locked container."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from orchestrator.context import check_context
from orchestrator.documents import documents_of
from orchestrator.errors import ConfigError
from orchestrator.limits import Limits, merge_limits
from orchestrator.policies.base import Policy
from orchestrator.policies.chain import checked_policies
from orchestrator.prompts import DATA_IMAGE, Observe, PromptMode, prompt_for
from orchestrator.providers.base import LLMInterface, Provider
from orchestrator.providers.custom import as_provider
from orchestrator.providers.prices import Price, checked_prices
from orchestrator.recorder import Listener, Recorder
from orchestrator.repl import spec_for
from orchestrator.result import RunResult, Trajectory
from orchestrator.run import Run
from orchestrator.schema import OutputSchema
from orchestrator.settings import OnDepthLimit, RunSettings
from orchestrator.sync import run_sync
from orchestrator.trace import TraceFile
from sandbox.spec import SandboxSpec


class RLM:
    """A Recursive Language Model whose code runs in a locked container.

    Args:
        root_llm: The model that writes the code.
        sub_llm: The model that answers the code's sub-questions; by default the root's.
        prompt_mode: ``standard``, ``conservative`` (few sub-questions) or ``no_subcalls`` (none: the kernel has no
            function for them and the gate refuses forged ones). With ``max_depth=0`` all are as the last.
        observe: ``full``, or ``typed``: a quarantine in which no text that the document may have written reaches the
            root, only numbers, booleans and labels that it declared before (`orchestrator.typed`).
        max_iterations: Short for ``Limits(max_turns=...)``.
        max_depth: Short for ``Limits(max_depth=...)``.
        max_output_length: Short for ``Limits(max_output_chars=...)``.
        limits: All limits; every one is finite by default.
        sandbox: The box: `SandboxSpec`.
        system_prompt: Replaces the mode's system prompt. What it must say of the REPL is in `orchestrator.prompts`.
        trace_dir: Where to write a trace of each run, one JSONL file readable by its owner alone; by default none.
        keep_text: Whether the trace holds the document's and the models' text.
        redact_trace: Whether what has the form of a secret is replaced in the trace's code and text.
        policies: Asked, in this order, about each request, each reply and the answer (`orchestrator.policies`).
        prices: What models cost, by the provider's name: ``{"openai:qwen3": Price(...)}``. They go before those of
            `orchestrator.providers.prices.PRICES`.
        on_depth_limit: What `rlm_query` does where ``max_depth`` allows no child run: ``raise``, or ask the sub-model,
            as ``llm_query(question, data=context)`` does.
        output_schema: What the answer must be: a pydantic model class, a dataclass, or a JSON schema as a dict. The
            root is told the schema, its answer is checked on the host, and what does not fit is a turn. The answer is
            JSON then, and ``RunResult.value`` the typed value (`orchestrator.schema`).

    Raises:
        ConfigError: A setting is wrong, by name, value and range. Nothing was started.
    """

    def __init__(
        self,
        root_llm: LLMInterface | Provider,
        sub_llm: LLMInterface | Provider | None = None,
        *,
        prompt_mode: PromptMode = "standard",
        observe: Observe = "full",
        max_iterations: float | None = None,
        max_depth: int | None = None,
        max_output_length: int | None = None,
        limits: Limits | None = None,
        sandbox: SandboxSpec | None = None,
        system_prompt: str | None = None,
        trace_dir: str | Path | None = None,
        keep_text: bool = False,
        redact_trace: bool = True,
        policies: Sequence[Policy] = (),
        prices: Mapping[str, Price] | None = None,
        on_depth_limit: OnDepthLimit = "raise",
        output_schema: type | dict[str, Any] | None = None,
    ) -> None:
        if on_depth_limit not in get_args(OnDepthLimit):
            raise ConfigError(f"on_depth_limit: {on_depth_limit!r:.80} is neither 'raise' nor 'llm_query'")
        merged = merge_limits(limits, max_turns=max_iterations, max_depth=max_depth, max_output_chars=max_output_length)
        spec = spec_for(sandbox, merged)
        root = as_provider(root_llm)
        asked = as_provider(sub_llm if sub_llm is not None else root_llm)
        sub = None if prompt_mode == "no_subcalls" else asked
        mode_prompt = _mode_prompt(prompt_mode, observe, merged, spec)
        self._settings = RunSettings(
            root=root,
            sub=sub,
            limits=merged,
            spec=spec,
            prompt_mode=prompt_mode,
            observe=observe,
            system_prompt=mode_prompt if system_prompt is None else system_prompt,
            own_prompt=system_prompt is not None,
            policies=checked_policies(policies),
            prices=checked_prices(prices, merged, root, sub),
            on_depth_limit=on_depth_limit,
            schema=None if output_schema is None else OutputSchema.of(output_schema),
        )
        self._trace_dir = Path(trace_dir) if trace_dir is not None else None
        self._keep_text = keep_text
        self._redact_trace = redact_trace

    @property
    def settings(self) -> RunSettings:
        """What was given, checked."""
        return self._settings

    @property
    def limits(self) -> Limits:
        """The limits in force."""
        return self._settings.limits

    def query(self, query: str, context: Any, verbose: bool = False) -> tuple[str | None, Trajectory]:
        """Ask and wait; also from a running event loop, such as a notebook's. Ctrl-C ends the run and its box.

        Args:
            query: The question.
            context: A str, a list of str, a dict of JSON values, or a `pathlib.Path` of a text file.
            verbose: Print what happens to stderr.

        Returns:
            The answer and the trajectory. At a limit the answer is partial, or None, and ``trajectory.stop_reason``
            names the limit.

        Raises:
            As `arun`.
        """
        listeners: list[Listener] = []
        if verbose:
            from orchestrator.progress import ProgressPrinter

            listeners.append(ProgressPrinter(sys.stderr))
        result = run_sync(self.arun(query, context, listeners=listeners))
        return result.answer, Trajectory(result)

    async def arun(self, question: str, context: Any, *, listeners: Sequence[Listener] = ()) -> RunResult:
        """Ask and await the result.

        Args:
            question: The question.
            context: As for `query`.
            listeners: Called with each `TraceEvent`, on the event loop.

        Raises:
            ConfigError, ContextError: The question or the context can't be used; nothing was started.
            ProviderError: The root model failed, also after retries.
            BoxError: No engine, no image, or the box failed; `ProtocolViolation` if it misbehaved.
            Each of the last three carries what the run had as its ``result``.
        """
        if not isinstance(question, str) or not question.strip():
            raise ConfigError(f"query: {question!r:.80} is not a question (a str that is not blank)")
        checked = await asyncio.to_thread(check_context, context)
        documents = await asyncio.to_thread(documents_of, checked)
        trace = self._trace()
        try:
            recorder = Recorder([*listeners, *([trace] if trace else [])])
            return await Run(self._settings, question, checked, documents, recorder).run()
        finally:
            if trace:
                trace.close()

    def _trace(self) -> TraceFile | None:
        if self._trace_dir is None:
            return None
        return TraceFile(self._trace_dir, keep_text=self._keep_text, redact=self._redact_trace)


def _mode_prompt(mode: PromptMode, observe: Observe, limits: Limits, spec: SandboxSpec) -> str:
    """The system prompt of a mode, for the box that it runs in."""
    prompt = prompt_for(mode if limits.max_depth else "no_subcalls", observe)
    return prompt + DATA_IMAGE if spec.image == "data" else prompt
