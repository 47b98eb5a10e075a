"""What the injection tests have looked at, for one line at the end of the session."""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2s
from typing import Final

from tests.told import TOLD, tell

_SECTION: Final = "injections"


def count(*, cases: int = 0, broken: int = 0, payloads: Collection[str] = (), requests: int = 0) -> None:
    """Add to the session's counts.

    Args:
        cases: Documents and strings that were played, once for each mode and model.
        broken: Those in which something was broken.
        payloads: Strings that were searched for. Each counts once a session.
        requests: Root requests that were searched.
    """
    digests = [blake2s(text.encode(errors="surrogatepass"), digest_size=8).hexdigest() for text in payloads]
    tell(_SECTION, (cases, broken, digests, requests))


def line() -> str:
    """The counts of this session in words; "" where there are none."""
    told = TOLD.get(_SECTION, [])
    cases, broken, requests = (sum(counts[at] for counts in told) for at in (0, 1, 3))
    payloads = {digest for counts in told for digest in counts[2]}
    if not cases:
        return ""
    return (
        f"injections: {cases:,} cases, {broken} broken; {len(payloads):,} payload strings "
        f"searched for in {requests:,} root requests"
    )
