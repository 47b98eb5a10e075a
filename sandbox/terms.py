"""How much one box may say at once: what follows from the settings that its kernel was told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sandbox.spec import KernelSettings

MAX_BATCH_BYTES: Final = 1 << 20
"""Prompts of one message, where no single prompt is larger: a batch comes in several."""
_JSON_CHAR_BYTES: Final = 6  # a control character, escaped
_ENVELOPE_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What this one box was told.

    Attributes:
        comm_id: Id of the one comm it was given; a message on another one is forged.
        output_bytes: Most JSON of one message of output.
        query_bytes: Most UTF-8 of one message's prompts with their data.
        tools: Most bytes of arguments, by tool.
    """

    comm_id: str
    output_bytes: int
    query_bytes: int
    tools: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, comm_id: str, settings: KernelSettings) -> Terms:
        """What follows from the settings: the kernel keeps to the same bounds before it sends."""
        output_bytes = 2 * settings.output_chars * _JSON_CHAR_BYTES + _ENVELOPE_BYTES
        return cls(
            comm_id=comm_id,
            output_bytes=output_bytes,
            query_bytes=max(settings.prompt_bytes, MAX_BATCH_BYTES),
            tools={tool.name: tool.argument_bytes for tool in settings.tools.specs},
        )
