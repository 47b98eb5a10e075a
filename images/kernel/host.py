"""The way from a cell to the host: questions out, answers in, from all threads at once."""

import os
import queue
import uuid
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from answers import encode
from asking import ERRORS, PromptTooLarge, SubCallError

MESSAGE_BYTES = 1 << 20  # a batch is packed into messages of at most this size, where no single prompt is larger
MESSAGE_PROMPTS = 500  # and of at most so many prompts; the host refuses larger ones
PIECE_BYTES = 1 << 20  # of a context on its way to a child run; the host refuses larger ones

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
        results: list[Any] = [None] * len(prompts)
        for index, result in self.query_each(kind, prompts, datas, models):
            results[index] = result
        return results

    def query_each(
        self, kind: str, prompts: list[str], datas: list[str | None], models: list[str | None] | None = None
    ) -> Iterator[tuple[int, Any]]:
        """Ask, and yield each prompt's index with its answer or exception, as they come."""
        if os.getpid() != self._pid:
            raise SubCallError("sub-calls work from threads, not from child processes")
        refused: list[tuple[int, Any]] = []
        asked: list[tuple[int, list[bytes]]] = []
        for index, (prompt, data) in enumerate(zip(prompts, datas, strict=True)):
            texts = [encode(prompt)] if data is None else [encode(prompt), encode(data)]
            size = sum(map(len, texts))
            if size > self._prompt_bytes:
                most = self._prompt_bytes
                refused.append((index, PromptTooLarge(f"a prompt of {size:,} bytes; at most {most:,} are allowed")))
            else:
                asked.append((index, texts))
        return chain(refused, self._ask(kind, asked, models=models if models and any(models) else None))

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
    ) -> Iterator[tuple[int, Any]]:
        """Send the prompts, in as few messages as fit, with what each has besides; then yield (index, result) as they
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
        except BaseException:
            self._forget(sent)
            raise
        return self._arrivals(arrived, sent, len(asked))

    def _arrivals(self, arrived: Arrivals, sent: list[str], count: int) -> Iterator[tuple[int, Any]]:
        try:
            for _ in range(count):
                yield arrived.get()
        finally:
            self._forget(sent)

    def _forget(self, sent: list[str]) -> None:
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
