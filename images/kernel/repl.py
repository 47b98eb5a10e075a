"""What the model's code finds in its namespace: `context`, the sub-call functions, `FINAL` and `FINAL_VAR`.

Nothing here is trusted or relied on by the host: the cell can read, replace and forge all of it. It exists to be
convenient and to fail clearly.
"""

import json
import os
import queue
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

MESSAGE_BYTES = 1 << 20  # a batch is packed into messages of at most this size, where no single prompt is larger
MESSAGE_PROMPTS = 500  # and of at most so many prompts; the host refuses larger ones

REPORTED_CHARS = 64
REPORTED_ITEMS = 200
REPORTED_PER_CELL = 400  # the host drops more, and a message of many more is none that it takes

Arrivals = queue.SimpleQueue[tuple[int, Any]]


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


class NoCellRunning(SubCallError):
    """A thread asked after its cell had ended."""


class BatchError(SubCallError):
    """Some sub-calls of a batch failed. `results` has an answer or an exception for each prompt, in order."""

    def __init__(self, message: str, results: list[Any]) -> None:
        super().__init__(message)
        self.results = results


ERRORS = {
    kind.__name__: kind
    for kind in (SubCallError, LimitExceeded, PromptTooLarge, ProviderError, PolicyRefused, NoCellRunning)
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


class Host:
    """The way to the host: one Jupyter comm, shared by all threads."""

    def __init__(self, publish: Callable[[dict[str, Any], list[bytes]], None], prompt_bytes: int) -> None:
        self._publish = publish
        self._prompt_bytes = prompt_bytes
        self._pid = os.getpid()
        self._waiting: dict[str, Arrivals] = {}

    def send(self, message: dict[str, Any]) -> None:
        """Tell the host something that has no answer."""
        if os.getpid() != self._pid:
            raise SubCallError("this works from threads, not from child processes")
        self._publish(message, [])

    def query(self, kind: str, prompts: list[str], datas: list[str | None]) -> list[Any]:
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
        for index, result in self._ask(kind, asked):
            results[index] = result
        return results

    def _ask(self, kind: str, asked: list[tuple[int, list[bytes]]]) -> Iterable[tuple[int, Any]]:
        """Send the prompts, in as few messages as fit; yield (index, result) as they arrive."""
        arrived: Arrivals = queue.SimpleQueue()
        sent: list[str] = []
        try:
            for batch in pack(asked):
                call_id = uuid.uuid4().hex
                self._waiting[call_id] = arrived
                sent.append(call_id)
                indexes = [index for index, _ in batch]
                has_data = [len(texts) == 2 for _, texts in batch]
                message = {"kind": kind, "id": call_id, "indexes": indexes, "has_data": has_data}
                self._publish(message, [text for _, texts in batch for text in texts])
            for _ in asked:
                yield arrived.get()
        finally:
            for call_id in sent:
                self._waiting.pop(call_id, None)

    def on_message(self, message: dict[str, Any]) -> None:
        """Take the host's answers. Runs in the control thread while the cell waits in its own."""
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


def encode(text: str) -> bytes:
    """UTF-8; lone surrogates, which no provider accepts, become U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


class Scaffold:
    """The names put into the namespace, and what the cell did with them."""

    def __init__(self, host: Host, functions: Iterable[str], answer_bytes: int) -> None:
        self._host = host
        self._answer_bytes = answer_bytes
        self.final: str | None = None
        self.namespace: dict[str, Any] = {}
        self.values: dict[str, Any] = {"FINAL": self.FINAL, "FINAL_VAR": self.FINAL_VAR}
        for name in functions:
            self.values[name] = getattr(self, name)
        if self.values.keys() & {"llm_query", "llm_query_batched"}:
            self.values |= {**ERRORS, "BatchError": BatchError}

    def restore(self) -> None:
        """Before each cell: names of ours that a cell has overwritten work again, and no answer stands."""
        self.namespace.update(self.values)
        self.final = None

    def llm_query(self, prompt: Any = None, data: Any = None, **aliases: Any) -> str:
        """Ask the sub-model one question; returns its answer.

        Args:
            prompt: The question.
            data: Text from the document the question is about. Keep it out of `prompt`: the host marks it as data.

        Raises:
            LimitExceeded, PromptTooLarge, ProviderError: see their docstrings.
        """
        prompt = pick("llm_query", "prompt", prompt, aliases, ("query", "question", "text"))
        check_text("llm_query: prompt", prompt)
        if data is not None:
            check_text("llm_query: data", data)
        (result,) = self._host.query("query", [prompt], [data])
        if isinstance(result, Exception):
            raise result
        return Answer(result)

    def llm_query_batched(
        self, prompts: Any = None, data: Any = None, *, return_exceptions: bool = False, **aliases: Any
    ) -> list[Any]:
        """Ask many questions at once; returns the answers in the order of the prompts.

        Args:
            prompts: A list of questions.
            data: None, or a list with a text (or None) for each prompt.
            return_exceptions: Put an exception in the place of a failed answer instead of raising.

        Raises:
            BatchError: At least one failed; its `results` holds the answers that came.
        """
        prompts = pick("llm_query_batched", "prompts", prompts, aliases, ("queries", "questions", "prompt_list"))
        if isinstance(prompts, str | Mapping) or not isinstance(prompts, Iterable):
            raise TypeError(f"llm_query_batched: prompts must be a list of str, not {type(prompts).__name__}")
        prompts = list(prompts)
        if isinstance(data, str | Mapping) or not isinstance(data, Iterable | None):
            raise TypeError(f"llm_query_batched: data must be a list of str, not {type(data).__name__}")
        datas = [None] * len(prompts) if data is None else list(data)
        if len(datas) != len(prompts):
            raise ValueError(f"llm_query_batched: data must be a list as long as prompts ({len(prompts)})")
        for index, (prompt, item) in enumerate(zip(prompts, datas, strict=True)):
            check_text(f"llm_query_batched: prompts[{index}]", prompt)
            if item is not None:
                check_text(f"llm_query_batched: data[{index}]", item)
        results = self._host.query("batch", prompts, datas)
        failed = [result for result in results if isinstance(result, Exception)]
        if failed and not return_exceptions:
            summary = f"{len(failed)} of {len(results)} sub-calls failed; the first: {failed[0]} (the rest: .results)"
            raise BatchError(summary, results)
        return Answers(results)

    def declare_labels(self, *labels: Any) -> None:
        """Say which labels `report` may use. The host reads them, as literals, from the code; nothing is called."""

    def report(self, **values: Any) -> None:
        """Show the host these values: numbers, booleans, declared labels, and flat lists and dicts of them."""
        shown = {plain("a name", name): plain(name, value) for name, value in values.items()}
        size = sum(1 + (len(value) if isinstance(value, list | dict) else 0) for value in shown.values())
        if size > REPORTED_PER_CELL:
            raise ValueError(f"report: {size:,} values; at most {REPORTED_PER_CELL} are reported")
        self._host.send({"kind": "report", "values": shown})

    def FINAL(self, answer: Any) -> None:
        """End the run with this answer, when the cell has ended without an error."""
        text = answer_text(answer)
        size = len(encode(text))
        if size > self._answer_bytes:
            raise ValueError(f"an answer of {size:,} bytes; at most {self._answer_bytes:,} are allowed")
        self.final = text

    def FINAL_VAR(self, name: Any) -> None:
        """End the run with the value of this variable, when the cell has ended without an error."""
        self.FINAL(lookup(self.namespace, name) if isinstance(name, str) else name)


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


def lookup(namespace: Mapping[str, Any], name: str) -> Any:
    if name not in namespace:
        raise NameError(f"no variable is named {name!r}")
    return namespace[name]


def answer_text(value: Any) -> str:
    """An answer as text: str as it is, lists and dicts as JSON where they are JSON, all else by str()."""
    if isinstance(value, str):
        return "".join(value)  # a subclass of str may lie later, where no cell is left to see the error
    if isinstance(value, list | tuple | dict):
        try:
            return json.dumps(value, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            pass
    return str(value)


def json_text(value: Any) -> str:
    """A value as JSON. ASCII only, so that lone surrogates survive the wire.

    Raises:
        TypeError, ValueError, RecursionError: It is not JSON.
    """
    return json.dumps(value, allow_nan=False)


def read_context(path: str, form: str) -> Any:
    """Read a context file: UTF-8 text (lone surrogates kept), or JSON in which lists and dicts were stored."""
    with open(path, "rb") as file:
        raw = file.read()
    text = raw.decode("utf-8", "surrogatepass")
    return text if form == "text" else json.loads(text)
