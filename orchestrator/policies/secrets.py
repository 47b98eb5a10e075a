"""Keys and passwords in texts: found by their form, and replaced.

`redact_secrets` is applied to what a trace keeps; `SecretsRedaction` applies it to prompts or answers on request.
It finds common forms, not every secret: a short password, a key cut in two or written in another encoding stays.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Final

from orchestrator.errors import ConfigError
from orchestrator.limits import MIB
from orchestrator.policies.base import Allow, Decision, FinalAnswer, OutgoingRequest, Policy, Redact

MAX_TEXT_CHARS: Final = 8 * MIB
"""A longer text is not searched but replaced as a whole. No reply, prompt or answer of a run is so long."""
TOO_LONG: Final = "[redacted: too long to be searched for secrets]"
PLACE: Final = "[redacted]"
"""Takes a secret's place. Shorter than any secret that is found, so no text grows."""

_MIN_ENTROPY_BITS: Final = 3.0
"""A character, of what is called a secret in the text: random hexadecimal digits have about 3.6, words 2 to 3.5."""
_MAX_KEY_CHARS: Final = 20_000

# Each pattern tries few places, with bounded steps at each: no text makes it slow (tests/unit/test_secret_forms.py).
_FORMS: Final[tuple[tuple[tuple[str, ...], re.Pattern[str]], ...]] = (
    # AWS access key IDs: docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html (unique ID prefixes)
    (("AKIA", "ASIA"), re.compile(r"(?<![A-Za-z0-9])A[KS]IA[A-Z0-9]{16}(?![A-Za-z0-9])")),
    # GitHub: github.blog/2021-04-05-behind-githubs-new-authentication-token-formats
    (("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), re.compile(r"(?<![A-Za-z0-9_])gh[pousr]_[A-Za-z0-9]{36,255}")),
    (("github_pat_",), re.compile(r"(?<![A-Za-z0-9_])github_pat_[A-Za-z0-9_]{22,255}")),
    # OpenAI (sk-, sk-proj-, sk-svcacct-) and Anthropic (sk-ant-): as their consoles show them
    (("sk-",), re.compile(r"(?<![A-Za-z0-9_-])sk-(?=[A-Za-z_-]{0,128}[0-9])[A-Za-z0-9_-]{20,256}")),
    # JSON Web Tokens: RFC 7519, three base64url parts of which two begin as '{"' does
    (
        ("eyJ",),
        re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,4096}\.eyJ[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,4096}"),
    ),
)
# Private keys in PEM (RFC 7468) and OpenPGP's armour (RFC 9580)
_KEY_BEGINS: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_LINES: Final = re.compile(r"[A-Za-z0-9+/=\s\\]{0,20000}")
# What a text itself calls a secret: name = value, "name": "value", Bearer value; but no call and no attribute in code
_NAMED: Final = re.compile(
    r"(?:password|passwd|secret|token|api[_ -]?key|access[_ -]?key|private[_ -]?key|credentials?|bearer)"
    r"[a-z0-9_-]{0,20}+[\"']?(?:\s{0,3}[:=]\s{0,3}|\s)[\"']?(?P<value>[a-z0-9+/=_~-]{16,512}+)(?![.(\[])",
    re.IGNORECASE,
)
_NAMES: Final = ("passw", "secret", "token", "key", "credential", "bearer")


def redact_secrets(text: str) -> tuple[str, int]:
    """Replace what has the form of a secret.

    Found are AWS access key IDs, GitHub tokens, OpenAI and Anthropic keys, JSON Web Tokens, private key blocks, and
    values of 16 characters and more that the text itself calls a password, secret, token or key and that look random:
    letters and digits, with an entropy of 3 bits a character.

    Example:
        >>> redact_secrets("AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE")
        ('AWS_ACCESS_KEY_ID=[redacted]', 1)

    Returns:
        The text, and how many places were replaced.
    """
    if len(text) > MAX_TEXT_CHARS:
        return TOO_LONG, 1
    text, count = _without_key_blocks(text)
    for begins, form in _FORMS:
        if any(begin in text for begin in begins):
            text, found = form.subn(PLACE, text)
            count += found
    text, found = _without_named(text)
    return text, count + found


def _without_key_blocks(text: str) -> tuple[str, int]:
    if "PRIVATE KEY" not in text:
        return text, 0
    kept, at, count = [], 0, 0
    while begins := _KEY_BEGINS.search(text, at):
        kept += [text[at : begins.start()], PLACE]
        at = _key_end(text, begins.end())
        count += 1
    return "".join([*kept, text[at:]]), count


def _key_end(text: str, start: int) -> int:
    """Where a key block ends: behind its last line, or, where that was cut off, behind what can be part of it."""
    mark = text.find("-----", start, start + _MAX_KEY_CHARS)
    if mark >= 0 and text.startswith("-----END", mark):
        closing = text.find("-----", mark + 5, mark + 80)
        return closing + 5 if closing >= 0 else mark + 8
    lines = _KEY_LINES.match(text, start)
    return lines.end() if lines else start


def _without_named(text: str) -> tuple[str, int]:
    lower = text.lower()
    if not any(name in lower for name in _NAMES):
        return text, 0
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        value = match["value"]
        if not _looks_random(value):
            return match[0]
        count += 1
        return match[0][: -len(value)] + PLACE

    return _NAMED.sub(replace, text), count


def _looks_random(value: str) -> bool:
    if not any(map(str.isdigit, value)) or not any(map(str.isalpha, value)):
        return False
    shares = (number / len(value) for number in Counter(value).values())
    return -sum(share * math.log2(share) for share in shares) >= _MIN_ENTROPY_BITS


class SecretsRedaction(Policy):
    """Replaces secrets (`redact_secrets`) in what is sent to models, or in the answer.

    Traces are redacted without it. Prompts are not by default: a document may be about keys, and a redacted one can't
    be answered from. System messages are left alone: they are the caller's own.

    Example:
        >>> SecretsRedaction(prompts=True).name
        'SecretsRedaction'

    Args:
        prompts: Redact every request to the root and the sub-models. What the root's later requests repeat is counted
            once.
        answers: Redact the answer.

    Raises:
        ConfigError: Neither was asked for.
    """

    def __init__(self, *, prompts: bool = False, answers: bool = False) -> None:
        if not (prompts or answers):
            raise ConfigError("SecretsRedaction: prompts and answers are both False, so that it does nothing; set one")
        self._prompts = prompts
        self._answers = answers

    def on_request(self, request: OutgoingRequest) -> Decision:
        """Redact all messages but the system's."""
        if not self._prompts:
            return Allow()
        done = [(m.content, 0) if m.role == "system" else redact_secrets(m.content) for m in request.messages]
        return _decision(tuple(text for text, _ in done), sum(count for _, count in done))

    def on_answer(self, answer: FinalAnswer) -> Decision:
        """Redact the answer."""
        return _decision(*redact_secrets(answer.text)) if self._answers else Allow()


def _decision(text: str | tuple[str, ...], count: int) -> Decision:
    return Redact(text=text, count=count, reason="what has the form of a secret") if count else Allow()
