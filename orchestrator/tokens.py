"""How many tokens a text has, for a person who wants to know before a run.

No limit stands on it. What a call reserves is a bound (a token a byte, `orchestrator.permit.upper_bound_tokens`): a
count made here is a guess at what another program will bill, and where a new model cuts text otherwise than its name
says, a run would overshoot its limit, or end for it.

With ``pip install rlm-airlock[tokens]`` OpenAI's own cut is used, where its vocabulary lies on this disk already. It is
never downloaded from here.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from orchestrator.chunking import CHARS_PER_TOKEN, estimate_tokens

if TYPE_CHECKING:
    from orchestrator.providers.base import Message

CHAT_TOKENS: Final = 4
"""What a chat template puts around a message, as far as is known."""

# encoding: (the file's name in tiktoken's cache, SHA-256 of it)
_VOCABULARIES: Final = {
    "o200k_base": (
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "cl100k_base": (
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
}
_BY_CHARACTERS: Final = f"{CHARS_PER_TOKEN} characters a token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A guess at tokens, and what it was made by."""

    tokens: int
    by: str


def estimate(model: str, messages: Iterable[Message]) -> Estimate:
    """Guess the input tokens of a request.

    Args:
        model: The provider's name, ``openai:gpt-5.5``.
        messages: What is sent.
    """
    texts = [message.content for message in messages]
    encoding = _encoding_of(model)
    if encoding is None:
        return Estimate(tokens=sum(CHAT_TOKENS + estimate_tokens(text) for text in texts), by=_BY_CHARACTERS)
    counted = sum(CHAT_TOKENS + len(encoding.encode_ordinary(text)) for text in texts)
    return Estimate(tokens=counted, by=f"tiktoken, {encoding.name}")


def _encoding_of(model: str) -> Any:
    """tiktoken's encoding for a model; None: not OpenAI's, not known, not installed, or no vocabulary on the disk."""
    vendor, _, name = model.partition(":")
    if vendor != "openai":
        return None
    try:
        import tiktoken

        encoding = tiktoken.encoding_name_for_model(name)
    except (ImportError, KeyError):
        return None
    return tiktoken.get_encoding(encoding) if _vocabulary_is_here(encoding) else None


def _vocabulary_is_here(encoding: str) -> bool:
    """Whether tiktoken finds the file in its cache, whole: else it would download it."""
    file, digest = _VOCABULARIES.get(encoding, ("", ""))
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    if folder is None:
        folder = str(Path(tempfile.gettempdir()) / "data-gym-cache")
    if not file or not folder:  # an empty name means that it keeps no cache
        return False
    try:
        return hashlib.sha256((Path(folder) / file).read_bytes()).hexdigest() == digest
    except OSError:
        return False
