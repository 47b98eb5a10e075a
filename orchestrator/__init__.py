"""Airlock: Recursive Language Models over documents nobody trusts.

Names are loaded at first use: importing this package does no I/O and loads no provider's SDK.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.chunking import chunk_text, estimate_tokens
    from orchestrator.context import format_context_info, load_document
    from orchestrator.environment import REPLEnvironment
    from orchestrator.errors import (
        BoxError,
        ConfigError,
        ContextError,
        Diverged,
        LimitExceeded,
        PolicyRefused,
        ProtocolViolation,
        ProviderError,
        RLMError,
        SetupError,
        VariableError,
    )
    from orchestrator.limits import UNLIMITED, Limits, Usage
    from orchestrator.policies.base import (
        Allow,
        Decision,
        FinalAnswer,
        IncomingReply,
        OutgoingRequest,
        Policy,
        Redact,
        Refuse,
    )
    from orchestrator.policies.canary import Canary
    from orchestrator.policies.limits import EgressLimit, MaxPrompt, ModelAllowList
    from orchestrator.policies.secrets import SecretsRedaction, redact_secrets
    from orchestrator.pool import SandboxPool
    from orchestrator.prompts import RLM_NO_SUBCALLS_PROMPT, RLM_SYSTEM_PROMPT, RLM_SYSTEM_PROMPT_CONSERVATIVE
    from orchestrator.providers.anthropic import AnthropicInterface
    from orchestrator.providers.base import LLMInterface
    from orchestrator.providers.openai import OpenAIInterface
    from orchestrator.providers.prices import Price
    from orchestrator.providers.recording import RecordingProvider, ReplayProvider
    from orchestrator.providers.scripted import ScriptedProvider
    from orchestrator.rendering import truncate_output
    from orchestrator.reply_cache import ReplyCache
    from orchestrator.result import RunResult, StopReason, Trajectory
    from orchestrator.rlm import RLM
    from orchestrator.session import Session
    from orchestrator.strategies import Strategy
    from orchestrator.stream import RunStream
    from orchestrator.tools import Tool, ToolFailed
    from orchestrator.trace import TraceEvent
    from sandbox.spec import SandboxSpec

_HOMES = {
    "RLM": "orchestrator.rlm",
    "ReplyCache": "orchestrator.reply_cache",
    "Session": "orchestrator.session",
    "Strategy": "orchestrator.strategies",
    "REPLEnvironment": "orchestrator.environment",
    "OpenAIInterface": "orchestrator.providers.openai",
    "AnthropicInterface": "orchestrator.providers.anthropic",
    "ScriptedProvider": "orchestrator.providers.scripted",
    **dict.fromkeys(("RecordingProvider", "ReplayProvider"), "orchestrator.providers.recording"),
    "LLMInterface": "orchestrator.providers.base",
    "Price": "orchestrator.providers.prices",
    "Limits": "orchestrator.limits",
    "UNLIMITED": "orchestrator.limits",
    "Usage": "orchestrator.limits",
    "RunStream": "orchestrator.stream",
    "TraceEvent": "orchestrator.trace",
    "SandboxPool": "orchestrator.pool",
    "SandboxSpec": "sandbox.spec",
    "RunResult": "orchestrator.result",
    "StopReason": "orchestrator.result",
    "Trajectory": "orchestrator.result",
    **dict.fromkeys(("Tool", "ToolFailed"), "orchestrator.tools"),
    "RLM_SYSTEM_PROMPT": "orchestrator.prompts",
    "RLM_SYSTEM_PROMPT_CONSERVATIVE": "orchestrator.prompts",
    "RLM_NO_SUBCALLS_PROMPT": "orchestrator.prompts",
    "chunk_text": "orchestrator.chunking",
    "estimate_tokens": "orchestrator.chunking",
    "format_context_info": "orchestrator.context",
    "load_document": "orchestrator.context",
    "truncate_output": "orchestrator.rendering",
    **dict.fromkeys(
        ("Policy", "Decision", "Allow", "Redact", "Refuse", "OutgoingRequest", "IncomingReply", "FinalAnswer"),
        "orchestrator.policies.base",
    ),
    **dict.fromkeys(("EgressLimit", "MaxPrompt", "ModelAllowList"), "orchestrator.policies.limits"),
    **dict.fromkeys(("SecretsRedaction", "redact_secrets"), "orchestrator.policies.secrets"),
    "Canary": "orchestrator.policies.canary",
    "RLMError": "orchestrator.errors",
    "ConfigError": "orchestrator.errors",
    "ContextError": "orchestrator.errors",
    "Diverged": "orchestrator.errors",
    "LimitExceeded": "orchestrator.errors",
    "PolicyRefused": "orchestrator.errors",
    "ProviderError": "orchestrator.errors",
    "BoxError": "orchestrator.errors",
    "ProtocolViolation": "orchestrator.errors",
    "SetupError": "orchestrator.errors",
    "VariableError": "orchestrator.errors",
}

__all__ = [
    "RLM",
    "RLM_NO_SUBCALLS_PROMPT",
    "RLM_SYSTEM_PROMPT",
    "RLM_SYSTEM_PROMPT_CONSERVATIVE",
    "UNLIMITED",
    "Allow",
    "AnthropicInterface",
    "BoxError",
    "Canary",
    "ConfigError",
    "ContextError",
    "Decision",
    "Diverged",
    "EgressLimit",
    "FinalAnswer",
    "IncomingReply",
    "LLMInterface",
    "LimitExceeded",
    "Limits",
    "MaxPrompt",
    "ModelAllowList",
    "OpenAIInterface",
    "OutgoingRequest",
    "Policy",
    "PolicyRefused",
    "Price",
    "ProtocolViolation",
    "ProviderError",
    "REPLEnvironment",
    "RLMError",
    "RecordingProvider",
    "Redact",
    "Refuse",
    "ReplayProvider",
    "ReplyCache",
    "RunResult",
    "RunStream",
    "SandboxPool",
    "SandboxSpec",
    "ScriptedProvider",
    "SecretsRedaction",
    "Session",
    "SetupError",
    "StopReason",
    "Strategy",
    "Tool",
    "ToolFailed",
    "TraceEvent",
    "Trajectory",
    "Usage",
    "VariableError",
    "chunk_text",
    "estimate_tokens",
    "format_context_info",
    "load_document",
    "redact_secrets",
    "truncate_output",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
