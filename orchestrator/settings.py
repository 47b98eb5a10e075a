"""How runs are made: what `RLM` was given, checked, and what every run of a recursion tree reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from orchestrator.limits import Limits
from orchestrator.policies.base import Policy
from orchestrator.prompts import Observe, PromptMode
from orchestrator.providers.base import Provider
from orchestrator.providers.prices import Price
from orchestrator.schema import OutputSchema
from sandbox.spec import SandboxSpec

OnDepthLimit = Literal["raise", "llm_query"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How runs are made. `RLM`'s arguments say what each means.

    Attributes:
        own_prompt: Whether ``system_prompt`` is the caller's, which nothing is added to.
        schema: What the first run's answer must be; children answer in text.
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

    @property
    def models(self) -> tuple[Provider, ...]:
        """All models that a run may ask, each once, the root first."""
        return tuple(dict.fromkeys(filter(None, (self.root, self.sub))))
