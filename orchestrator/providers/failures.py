"""From whatever an SDK or a server threw to one `ProviderError` that is safe to show.

A server's words are untrusted: they may be long, hold control characters, or repeat the key. An SDK's exception
holds the request with its headers. So nothing of either is kept: the new error holds a short, escaped text, and
callers raise it outside of their `except` block, where no `__context__` points back.
"""

from __future__ import annotations

import math
import re
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from orchestrator.errors import ProviderError
from orchestrator.policies.secrets import redact_secrets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_TEXT_CHARS: Final = 300
_READ_CHARS: Final = 4096  # of a server's text; the rest is not even looked at
_SHORTEST_SECRET_CHARS: Final = 4  # replacing a shorter one would garble ordinary words and protect nothing

_RETRYABLE_STATUS: Final = frozenset({408, 409, 429})
_STATUS_OF_TYPE: Final = {  # an error inside of a stream that began with 200 names its type only
    "overloaded_error": 529,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "api_error": 500,
    "server_error": 500,
    "timeout_error": 504,
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "insufficient_quota": 402,
    "context_length_exceeded": 400,
    "content_filter": 400,
}
_TOO_LONG_STATUS: Final = (400, 413, 422)
_TOO_LONG: Final = re.compile(
    r"context (?:length|size|window)|prompt is too long|input is too long|maximum context|too many (?:input )?tokens"
    r"|exceeds? the (?:available )?context",
    re.IGNORECASE,
)
_OUT_OF_CREDIT: Final = "insufficient_quota"  # sent with 429, but no wait cures it


class ReplyTooLargeError(Exception):
    """More bytes arrived than the request allows."""


def safe_text(text: object, *, secrets: Iterable[str] = (), max_chars: int = MAX_TEXT_CHARS) -> str:
    """Make a stranger's text fit to show: secrets replaced, control characters escaped, length bounded.

    Replaced are the `secrets` that are known, and whatever else has the form of one.
    """
    shown = str(text)[:_READ_CHARS]
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET_CHARS:
            shown = shown.replace(secret, "[key]")
    shown, _ = redact_secrets(shown)
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in shown)
    return escaped if len(escaped) <= max_chars else escaped[: max_chars - 1] + "…"


def safe_url(url: str) -> str:
    """An address without the password and the query that it may have."""
    parts = urlsplit(url)
    return safe_text(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl())


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds a server asks to wait, from ``retry-after-ms`` or ``retry-after`` (seconds or an HTTP date)."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / scale
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def from_server_error(
    exc: Exception, *, provider: str, secrets: Iterable[str], streaming: bool
) -> ProviderError | None:
    """Translate an SDK's error that carries a server's answer; None where it carries none.

    Args:
        exc: The SDK's exception: ``status_code`` and ``response`` where a status was the answer, ``body`` where
            the answer held an error.
        provider: The provider's name, for the text.
        secrets: What must not appear in the text.
        streaming: The reply had begun, so the error came inside of it and something may have been billed.
    """
    body = getattr(exc, "body", None)
    status = getattr(exc, "status_code", None)
    if not streaming and not isinstance(status, int):
        return None
    if streaming:
        if body is None:
            return None
        status = _status_inside_stream(body)
    code = _field(body, "code")
    headers: Mapping[str, str] = {} if streaming else getattr(getattr(exc, "response", None), "headers", {})
    said = safe_text(_message(body), secrets=secrets)
    where = "the stream broke off with an error" if streaming else "the server answered"
    return ProviderError(
        f"{provider}: {where} {status or ''}".rstrip() + (f": {said}" if said else ""),
        provider=provider,
        status=status,
        retryable=code != _OUT_OF_CREDIT and _retryable(status, headers),
        retry_after_s=retry_after_s(headers),
        refused=not streaming,
        too_long=_is_too_long(status, code, said),
    )


def _is_too_long(status: int | None, code: object, said: str) -> bool:
    """Servers have no common code for it. A wrong guess costs a summary of the conversation, and one more attempt."""
    return status in _TOO_LONG_STATUS and (code == "context_length_exceeded" or _TOO_LONG.search(said) is not None)


def _retryable(status: int | None, headers: Mapping[str, str]) -> bool:
    wish = headers.get("x-should-retry")  # both vendors' servers send it where they know better than the status
    if wish in ("true", "false"):
        return wish == "true"
    return status is None or status in _RETRYABLE_STATUS or status >= 500


def _status_inside_stream(body: object) -> int | None:
    for name in ("code", "type"):
        value = _field(body, name)
        if isinstance(value, int) and 400 <= value <= 599:
            return value
        if isinstance(value, str) and value in _STATUS_OF_TYPE:
            return _STATUS_OF_TYPE[value]
    return None


def _error_object(body: object) -> Any:
    """The innermost object that describes the error: ``{"error": {...}}`` or the object itself."""
    if isinstance(body, dict) and isinstance(body.get("error"), (dict, str)):
        return body["error"]
    return body


def _field(body: object, name: str) -> object:
    error = _error_object(body)
    return error.get(name) if isinstance(error, dict) else None


def _message(body: object) -> object:
    error = _error_object(body)
    if isinstance(error, dict):
        return error.get("message") or error.get("detail") or ""
    return error if isinstance(error, str) else ""
