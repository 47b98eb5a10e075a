"""How runs are made: what `RLM` was given, checked, and what every run of a recursion tree reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.errors import ConfigError
from orchestrator.intake import ContextMode
from orchestrator.limits import Limits
from orchestrator.policies.base import Policy
from orchestrator.pool import SandboxPool
from orchestrator.prompts import DATA_IMAGE, Observe, PromptMode, prompt_for
from orchestrator.providers.base import Provider
from orchestrator.providers.custom import as_provider
from orchestrator.providers.prices import Price
from orchestrator.providers.windows import window_of
from orchestrator.reply_cache import ReplyCache
from orchestrator.schema import OutputSchema
from orchestrator.strategies import Strategy, roots_of
from orchestrator.tools import Tool
from sandbox.spec import SandboxSpec

OnDepthLimit = Literal["raise", "llm_query"]
OnKill = Literal["tell", "replay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How runs are made. `RLM`'s arguments say what each means.

    Attributes:
        own_prompt: Whether ``system_prompt`` is the caller's, which nothing is added to.
        schema: What the first run's answer must be; children answer in text.
        modules: Source files by their path in the box (`orchestrator.modules`).
        strategies: What a run that is stuck changes, one after the other; their root models are providers.
        root_window_tokens: What the caller says of the first root model's window.
    """

    root: Provider
    sub: Provider | None
    limits: Limits
    spec: SandboxSpec
    prompt_mode: PromptMode
    observe: Observe
    system_prompt: str
    own_prompt: bool
    policies: tuple[Policy, ...]
    prices: Mapping[str, Price]
    on_depth_limit: OnDepthLimit
    schema: OutputSchema | None
    setup_code: str = ""
    modules: Mapping[str, bytes] = field(default_factory=dict)
    tools: tuple[Tool, ...]
    strategies: tuple[Strategy, ...] = ()
    root_window_tokens: int | None = None
    sub_llms: Mapping[str, Provider] = field(default_factory=dict)
    fallback: tuple[Provider, ...] = ()
    cache: ReplyCache | None = None
    on_kill: OnKill = "tell"
    pool: SandboxPool | None = None
    context_mode: ContextMode = "auto"

    @property
    def window_tokens(self) -> int:
        """What the root can read and write at once."""
        return window_of(self.root, self.root_window_tokens)

    def by(self, strategy: Strategy) -> RunSettings:
        """How a stuck run goes on."""
        root = self.root if strategy.root_llm is None else as_provider(strategy.root_llm)
        changed = dataclasses.replace(
            self, root=root, root_window_tokens=self.root_window_tokens if root is self.root else None
        )
        if strategy.prompt_mode is None:
            return changed
        asks = strategy.prompt_mode != "no_subcalls"
        return dataclasses.replace(
            changed,
            prompt_mode=strategy.prompt_mode,
            system_prompt=mode_prompt(strategy.prompt_mode, self.observe, self.limits, self.spec),
            own_prompt=False,
            sub=self.sub if asks else None,
            sub_llms=self.sub_llms if asks else {},
        )

    @property
    def models(self) -> tuple[Provider, ...]:
        """All models that a run may ask, each once, the root first."""
        subs = (self.sub, *self.sub_llms.values())
        return tuple(dict.fromkeys(filter(None, (self.root, *subs, *self.fallback, *roots_of(self.strategies)))))


def own_or_mode_prompt(own: object, mode: PromptMode, observe: Observe, limits: Limits, spec: SandboxSpec) -> str:
    """The caller's own system prompt, or that of the mode.

    Raises:
        ConfigError: Their own is no text.
    """
    if own is None:
        return mode_prompt(mode, observe, limits, spec)
    if not isinstance(own, str):
        raise ConfigError(f"system_prompt: of type {type(own).__name__}; give a str")
    return own


def mode_prompt(mode: PromptMode, observe: Observe, limits: Limits, spec: SandboxSpec) -> str:
    """The system prompt of a mode, for the box that it runs in."""
    prompt = prompt_for(mode if limits.max_depth else "no_subcalls", observe)
    return prompt + DATA_IMAGE if spec.image == "data" else prompt
