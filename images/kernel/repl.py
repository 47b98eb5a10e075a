"""What the model's code finds in its namespace: `context`, the sub-call functions and the ways to answer.

Nothing here is trusted or relied on by the host: the cell can read, replace and forge all of it. It exists to be
convenient and to fail clearly.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from answers import CellAnswer
from asking import (
    ERRORS,
    Answer,
    BatchError,
    all_or_raise,
    check_model,
    check_text,
    one_each,
    pick,
)
from children import ChildRuns
from host import Host
from whole_text import read_text

REPORTED_CHARS = 64
REPORTED_ITEMS = 200
REPORTED_PER_CELL = 400  # the host drops more, and a message of many more is none that it takes


class Scaffold(CellAnswer, ChildRuns):
    """The names put into the namespace, and what the cell did with them."""

    def __init__(self, host: Host, functions: Iterable[str], answer_bytes: int, rlm_query: str = "raise") -> None:
        super().__init__(answer_bytes)
        self._host = host
        self._rlm_query = rlm_query
        self.values: dict[str, Any] = {"FINAL": self.FINAL, "FINAL_VAR": self.FINAL_VAR, "SUBMIT": self.SUBMIT}
        for name in functions:
            self.values[name] = getattr(self, name)
        if any(name.startswith("llm_query") for name in self.values):
            self.values |= {**ERRORS, "BatchError": BatchError}

    def restore(self) -> None:
        """Before each cell: names of ours that a cell has overwritten work again, and no answer stands."""
        self.namespace.update(self.values)
        self.namespace.setdefault("budget", self.budget)  # a word that documents and variables have too
        self.clear()

    def llm_query(self, prompt: Any = None, data: Any = None, model: Any = None, **aliases: Any) -> str:
        """Ask the sub-model one question; returns its answer.

        Args:
            prompt: The question.
            data: Text from the document the question is about. Keep it out of `prompt`: the host marks it as data.
            model: Name of one of the run's further sub-models, or None.

        Raises:
            LimitExceeded, PromptTooLarge, ProviderError, UnknownModel: see their docstrings.
        """
        prompt = pick("llm_query", "prompt", prompt, aliases, ("query", "question", "text"))
        check_text("llm_query: prompt", prompt)
        if data is not None:
            check_text("llm_query: data", data)
        check_model("llm_query: model", model)
        (result,) = self._host.query("query", [prompt], [data], [model])
        if isinstance(result, Exception):
            raise result
        return Answer(result)

    def llm_query_batched(
        self,
        prompts: Any = None,
        data: Any = None,
        model: Any = None,
        *,
        return_exceptions: bool = False,
        **aliases: Any,
    ) -> list[Any]:
        """Ask many questions at once; returns the answers in the order of the prompts.

        Args:
            prompts: A list of questions.
            data: None, or a list with a text (or None) for each prompt.
            model: None, a name for all of them, or a list with a name (or None) for each prompt.
            return_exceptions: Put an exception in the place of a failed answer instead of raising.

        Raises:
            BatchError: At least one failed; its `results` holds the answers that came.
        """
        asked = batch_arguments("llm_query_batched", prompts, data, model, aliases)
        return all_or_raise(self._host.query("batch", *asked), return_exceptions)

    def llm_query_as_completed(
        self, prompts: Any = None, data: Any = None, model: Any = None, **aliases: Any
    ) -> Iterator[tuple[int, Any]]:
        """Ask many questions at once; returns an iterator of (index of the prompt, its answer), as the answers come.

        A prompt that failed has an exception in the place of its answer. What is not iterated over was asked
        and is paid for all the same.

        Args:
            prompts, data, model: As for llm_query_batched.
        """
        asked = batch_arguments("llm_query_as_completed", prompts, data, model, aliases)
        arriving: Iterator[tuple[int, Any]] = self._host.query_each("batch", *asked)
        return arriving

    def budget(self) -> dict[str, Any]:
        """What the run may still spend, as the host said it last. None is unlimited."""
        return dict(self._host.budget)

    def declare_labels(self, *labels: Any) -> None:
        """Say which labels `report` may use. The host reads them, as literals, from the code; nothing is called."""

    def report(self, **values: Any) -> None:
        """Show the host these values: numbers, booleans, declared labels, and flat lists and dicts of them."""
        shown = {plain("a name", name): plain(name, value) for name, value in values.items()}
        size = sum(1 + (len(value) if isinstance(value, list | dict) else 0) for value in shown.values())
        if size > REPORTED_PER_CELL:
            raise ValueError(f"report: {size:,} values; at most {REPORTED_PER_CELL} are reported")
        self._host.send({"kind": "report", "values": shown})


def batch_arguments(
    function: str, prompts: Any, data: Any, model: Any, aliases: dict[str, Any]
) -> tuple[list[str], list[str | None], list[str | None]]:
    """Prompts, and the data and the model of each, of a function that asks many questions at once."""
    prompts = pick(function, "prompts", prompts, aliases, ("queries", "questions", "prompt_list"))
    if isinstance(prompts, str | Mapping) or not isinstance(prompts, Iterable):
        raise TypeError(f"{function}: prompts must be a list of str, not {type(prompts).__name__}")
    prompts = list(prompts)
    if isinstance(data, str):
        raise TypeError(f"{function}: data must be a list of str, not str")
    datas = one_each(function, "data", data, len(prompts))
    models = [model] * len(prompts) if isinstance(model, str) else one_each(function, "model", model, len(prompts))
    for index, (prompt, item) in enumerate(zip(prompts, datas, strict=True)):
        check_text(f"{function}: prompts[{index}]", prompt)
        if item is not None:
            check_text(f"{function}: data[{index}]", item)
        check_model(f"{function}: model[{index}]", models[index])
    return prompts, datas, models


def plain(name: str, value: Any, *, inside: bool = False) -> Any:
    """A value that can be reported.

    Raises:
        TypeError, ValueError: It can't be.
    """
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()  # a number of numpy's
    if isinstance(value, int) and abs(value) >= 10**REPORTED_CHARS:
        raise ValueError(f"report: {name} has more than {REPORTED_CHARS} digits")
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        if len(value) > REPORTED_CHARS:
            raise ValueError(f"report: {name} is no label: {len(value):,} characters")
        return str.__str__(value)
    if inside or not isinstance(value, list | tuple | dict):
        raise TypeError(f"report: {name} holds {type(value).__name__}; only numbers, booleans and labels are reported")
    if len(value) > REPORTED_ITEMS:
        raise ValueError(f"report: {name} has {len(value):,} items; at most {REPORTED_ITEMS} are reported")
    if isinstance(value, dict):
        return {plain(name, key, inside=True): plain(name, item, inside=True) for key, item in value.items()}
    return [plain(name, item, inside=True) for item in value]


def read_context(path: str, form: str, memory_bytes: int = 0, is_ascii: bool = False) -> Any:
    """Read a context file: UTF-8 text (lone surrogates kept), or JSON in which lists and dicts were stored.

    Args:
        path: The file. A lazy text has its index beside it.
        form: ``text``, ``json``, or ``lazy``: a text that is read where it is looked at.
        memory_bytes: Of the box, where that is known.
        is_ascii: Whether the host knows that there is nothing but ASCII in it.
    """
    if form == "lazy":
        from lazy_text import LazyText

        return LazyText(path, path + ".index", memory_bytes)
    text = read_text(path, is_ascii)
    return text if form == "text" else json.loads(text)
