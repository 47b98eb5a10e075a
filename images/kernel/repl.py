"""What the model's code finds in its namespace: `context`, the sub-call functions and the ways to answer.

Nothing here is trusted or relied on by the host: the cell can read, replace and forge all of it. It exists to be
convenient and to fail clearly.
"""

import json
import os
import queue
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from answers import CellAnswer, encode
from asking import (
    ERRORS,
    Answer,
    BatchError,
    PromptTooLarge,
    SubCallError,
    all_or_raise,
    check_model,
    check_text,
    one_each,
    pick,
)
from children import ChildRuns
from whole_text import read_text

MESSAGE_BYTES = 1 << 20  # a batch is packed into messages of at most this size, where no single prompt is larger
MESSAGE_PROMPTS = 500  # and of at most so many prompts; the host refuses larger ones

REPORTED_CHARS = 64
PIECE_BYTES = 1 << 20  # of a context on its way to a child run; the host refuses larger ones
REPORTED_ITEMS = 200
REPORTED_PER_CELL = 400  # the host drops more, and a message of many more is none that it takes

Arrivals = queue.SimpleQueue[tuple[int, Any]]


class Host:
    """The way to the host: one Jupyter comm, shared by all threads.

    Args:
        publish: Sends what is asked, with its texts.
        tell: Sends what has no answer, in its order with the cell's output.
        prompt_bytes: Most bytes of a prompt with its data.
    """

    def __init__(
        self,
        publish: Callable[[dict[str, Any], list[bytes]], None],
        tell: Callable[[dict[str, Any]], None],
        prompt_bytes: int,
    ) -> None:
        self._publish = publish
        self._tell = tell
        self._prompt_bytes = prompt_bytes
        self._pid = os.getpid()
        self._waiting: dict[str, Arrivals] = {}
        self.budget: dict[str, Any] = {}

    def send(self, message: dict[str, Any]) -> None:
        """Tell the host something that has no answer."""
        if os.getpid() != self._pid:
            raise SubCallError("this works from threads, not from child processes")
        self._tell(message)

    def query(
        self,
        kind: str,
        prompts: list[str],
        datas: list[str | None],
        models: list[str | None] | None = None,
    ) -> list[Any]:
        """Ask, wait, and return an answer or an exception for each prompt, in order."""
        if os.getpid() != self._pid:
            raise SubCallError("sub-calls work from threads, not from child processes")
        results: list[Any] = [None] * len(prompts)
        asked: list[tuple[int, list[bytes]]] = []
        for index, (prompt, data) in enumerate(zip(prompts, datas, strict=True)):
            texts = [encode(prompt)] if data is None else [encode(prompt), encode(data)]
            size = sum(map(len, texts))
            if size > self._prompt_bytes:
                most = self._prompt_bytes
                results[index] = PromptTooLarge(f"a prompt of {size:,} bytes; at most {most:,} are allowed")
            else:
                asked.append((index, texts))
        for index, result in self._ask(kind, asked, models=models if models and any(models) else None):
            results[index] = result
        return results

    def child_runs(self, questions: list[str], contexts: list[tuple[str, bytes] | None]) -> list[Any]:
        """Start child runs and wait; returns an answer or an exception for each question, in order."""
        if os.getpid() != self._pid:
            raise SubCallError("child runs work from threads, not from child processes")
        results: list[Any] = [None] * len(questions)
        asked: list[tuple[int, list[bytes]]] = []
        uploads: list[str | None] = [None] * len(questions)
        for index, (question, context) in enumerate(zip(questions, contexts, strict=True)):
            raw = encode(question)
            if len(raw) > self._prompt_bytes:
                results[index] = PromptTooLarge(f"a question of {len(raw):,} bytes; at most {self._prompt_bytes:,}")
            else:
                if context is not None:
                    uploads[index] = self._upload(*context)
                asked.append((index, [raw]))
        for index, result in self._ask("child", asked, uploads=uploads):
            results[index] = result
        return results

    def _upload(self, form: str, raw: bytes) -> str:
        """Send a context to the host, in pieces; returns the upload's id."""
        upload_id = uuid.uuid4().hex
        for at in range(0, max(1, len(raw)), PIECE_BYTES):
            self._publish({"kind": "piece", "id": upload_id, "form": form}, [raw[at : at + PIECE_BYTES]])
        return upload_id

    def _ask(
        self, kind: str, asked: list[tuple[int, list[bytes]]], **more: list[str | None] | None
    ) -> Iterable[tuple[int, Any]]:
        """Send the prompts, in as few messages as fit, with what each has besides; yield (index, result) as they
        arrive.
        """
        arrived: Arrivals = queue.SimpleQueue()
        sent: list[str] = []
        try:
            for batch in pack(asked):
                call_id = uuid.uuid4().hex
                self._waiting[call_id] = arrived
                sent.append(call_id)
                indexes = [index for index, _ in batch]
                message: dict[str, Any] = {"kind": kind, "id": call_id, "indexes": indexes}
                if kind != "child":
                    message["has_data"] = [len(texts) == 2 for _, texts in batch]
                for name, values in more.items():
                    if values is not None:
                        message[name] = [values[index] for index in indexes]
                self._publish(message, [text for _, texts in batch for text in texts])
            for _ in asked:
                yield arrived.get()
        finally:
            for call_id in sent:
                self._waiting.pop(call_id, None)

    def ask_one(self, message: dict[str, Any], buffers: list[bytes]) -> Any:
        """Send a message that has one answer, and wait for it: a text or an exception."""
        if os.getpid() != self._pid:
            raise SubCallError("this works from threads, not from child processes")
        arrived: Arrivals = queue.SimpleQueue()
        call_id = uuid.uuid4().hex
        self._waiting[call_id] = arrived
        try:
            self._publish(message | {"id": call_id}, buffers)
            return arrived.get()[1]
        finally:
            self._waiting.pop(call_id, None)

    def take_budget(self, message: dict[str, Any]) -> None:
        """What is left comes with each cell and each answer."""
        self.budget = message["metadata"].get("budget", self.budget)

    def on_message(self, message: dict[str, Any]) -> None:
        """Take the host's answers. Runs in a thread of its own while the cell waits."""
        self.take_budget(message)
        data = message["content"]["data"]
        arrived = self._waiting.get(data["id"])
        if arrived is None:
            return
        texts = iter(message["buffers"])
        for result in data["results"]:
            if "error" in result:
                kind = ERRORS.get(result["error"], SubCallError)
                arrived.put((result["index"], kind(result["message"])))
            else:
                arrived.put((result["index"], bytes(next(texts)).decode("utf-8", "replace")))


def pack(asked: list[tuple[int, list[bytes]]]) -> Iterable[list[tuple[int, list[bytes]]]]:
    """Cut a batch into runs that fit one message."""
    batch: list[tuple[int, list[bytes]]] = []
    size = 0
    for item in asked:
        item_bytes = sum(map(len, item[1]))
        if batch and (size + item_bytes > MESSAGE_BYTES or len(batch) == MESSAGE_PROMPTS):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item_bytes
    if batch:
        yield batch


class Scaffold(CellAnswer, ChildRuns):
    """The names put into the namespace, and what the cell did with them."""

    def __init__(self, host: Host, functions: Iterable[str], answer_bytes: int, rlm_query: str = "raise") -> None:
        super().__init__(answer_bytes)
        self._host = host
        self._rlm_query = rlm_query
        self.values: dict[str, Any] = {"FINAL": self.FINAL, "FINAL_VAR": self.FINAL_VAR, "SUBMIT": self.SUBMIT}
        for name in functions:
            self.values[name] = getattr(self, name)
        if self.values.keys() & {"llm_query", "llm_query_batched"}:
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
        prompts = pick("llm_query_batched", "prompts", prompts, aliases, ("queries", "questions", "prompt_list"))
        if isinstance(prompts, str | Mapping) or not isinstance(prompts, Iterable):
            raise TypeError(f"llm_query_batched: prompts must be a list of str, not {type(prompts).__name__}")
        prompts = list(prompts)
        if isinstance(data, str):
            raise TypeError("llm_query_batched: data must be a list of str, not str")
        datas = one_each("data", data, len(prompts))
        models = [model] * len(prompts) if isinstance(model, str) else one_each("model", model, len(prompts))
        for index, (prompt, item) in enumerate(zip(prompts, datas, strict=True)):
            check_text(f"llm_query_batched: prompts[{index}]", prompt)
            if item is not None:
                check_text(f"llm_query_batched: data[{index}]", item)
            check_model(f"llm_query_batched: model[{index}]", models[index])
        return all_or_raise(self._host.query("batch", prompts, datas, models), return_exceptions)

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
