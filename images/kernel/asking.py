"""What a cell gets of sub-calls and child runs, their answers and errors, and how their arguments are checked."""

from collections.abc import Generator, Iterable, Mapping
from typing import Any

MODEL_NAME_CHARS = 64


class SubCallError(Exception):
    """A sub-call failed. The text says why."""


class LimitExceeded(SubCallError):
    """A limit of this run refuses the sub-call. Go on with what you have."""


class UnknownModel(SubCallError):
    """This run has no model of that name. The text says which there are."""


class PromptTooLarge(SubCallError):
    """The prompt with its data is larger than one sub-call may be. Split it."""


class ProviderError(SubCallError):
    """The model did not answer: the provider failed, also after retries."""


class PolicyRefused(SubCallError):
    """A policy of whoever runs this refuses the sub-call, or its answer. The text says which and why."""


class ChildRunFailed(SubCallError):
    """A child run ended without an answer. The text says why."""


class ToolError(SubCallError):
    """A tool failed, took too long, or returned what can't be sent here. The text says which."""


class ToolArgumentError(ToolError, TypeError):
    """A tool does not take these arguments, and was not called. The text says why."""


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
        UnknownModel,
        PromptTooLarge,
        ProviderError,
        PolicyRefused,
        ChildRunFailed,
        ToolError,
        ToolArgumentError,
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
            raise TypeError(f"{function}() got an unexpected argument {alias!r}; it takes {name}, data and model")
        value = other if value is None else value
    if value is None:
        raise TypeError(f"{function}() needs {name}")
    return value


def one_each(function: str, name: str, values: Any, count: int) -> list[Any]:
    """What a batch has beside its prompts: a value or None for each."""
    if values is None:
        return [None] * count
    if isinstance(values, Mapping) or not isinstance(values, Iterable):
        raise TypeError(f"{function}: {name} must be a list of str, not {type(values).__name__}")
    listed = list(values)
    if len(listed) != count:
        raise ValueError(f"{function}: {name} must be a list as long as prompts ({count})")
    return listed


def check_model(what: str, name: Any) -> None:
    """Whether there is a model of that name is the host's to say; it takes no name that is longer."""
    if name is None:
        return
    check_text(what, name)
    if not 0 < len(name) <= MODEL_NAME_CHARS:
        raise UnknownModel(f"{what}: a name of {len(name):,} characters; it has 1 to {MODEL_NAME_CHARS}")


def check_text(what: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{what} must be str, not {type(value).__name__}")
