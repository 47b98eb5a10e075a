"""What a cell gets of sub-calls and child runs, their answers and errors, and how their arguments are checked."""

from collections.abc import Generator
from typing import Any


class SubCallError(Exception):
    """A sub-call failed. The text says why."""


class LimitExceeded(SubCallError):
    """A limit of this run refuses the sub-call. Go on with what you have."""


class PromptTooLarge(SubCallError):
    """The prompt with its data is larger than one sub-call may be. Split it."""


class ProviderError(SubCallError):
    """The model did not answer: the provider failed, also after retries."""


class PolicyRefused(SubCallError):
    """A policy of whoever runs this refuses the sub-call, or its answer. The text says which and why."""


class ChildRunFailed(SubCallError):
    """A child run ended without an answer. The text says why."""


class NoCellRunning(SubCallError):
    """A thread asked after its cell had ended."""


class BatchError(SubCallError):
    """Some sub-calls of a batch failed. `results` has an answer or an exception for each prompt, in order."""

    def __init__(self, message: str, results: list[Any]) -> None:
        super().__init__(message)
        self.results = results


ERRORS = {
    kind.__name__: kind
    for kind in (
        SubCallError,
        LimitExceeded,
        PromptTooLarge,
        ProviderError,
        PolicyRefused,
        ChildRunFailed,
        NoCellRunning,
    )
}


class Answer(str):
    """A sub-model's answer: a str that can also be awaited, since models write `await llm_query(...)`."""

    def __await__(self) -> Generator[None, None, str]:
        yield from ()
        return str(self)


class Answers(list[Any]):
    """Answers of a batch; likewise."""

    def __await__(self) -> Generator[None, None, list[Any]]:
        yield from ()
        return self


def all_or_raise(results: list[Any], return_exceptions: bool) -> Answers:
    """The answers of a batch.

    Raises:
        BatchError: At least one is an exception, and those were not asked for.
    """
    failed = [result for result in results if isinstance(result, Exception)]
    if failed and not return_exceptions:
        summary = f"{len(failed)} of {len(results)} sub-calls failed; the first: {failed[0]} (the rest: .results)"
        raise BatchError(summary, results)
    return Answers(results)


def pick(function: str, name: str, value: Any, aliases: dict[str, Any], known: tuple[str, ...]) -> Any:
    """Models write `queries=` where we say `prompts=`."""
    for alias, other in aliases.items():
        if alias not in known:
            raise TypeError(f"{function}() got an unexpected argument {alias!r}; it takes {name} and data")
        value = other if value is None else value
    if value is None:
        raise TypeError(f"{function}() needs {name}")
    return value


def check_text(what: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{what} must be str, not {type(value).__name__}")
