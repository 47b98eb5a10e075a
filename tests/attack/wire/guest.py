"""A guest that attacks its host: it stands where the relay stands and says on the link what no honest box says.

Run as ``python guest.py NAME``, with the host at the other ends of stdin and stdout, on this machine or in a box; needs
nothing but Python. It greets as a relay and a kernel do. The attack is played when the first cell comes, or at its own
moment, and ends in an honest answer where the attack itself does not end the matter.
"""

import json
import os
import struct
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any, NoReturn

RELAY, SHELL, CONTROL, IOPUB, CALLS = 0, 1, 2, 3, 6
MIB = 1 << 20
FULL = 4 * MIB  # of an answer or a value: the most that a host takes
PROMPT = 2 * MIB  # of a message's prompts
TOOL = 1000  # of a tool call's arguments
OUTPUT = 290_000  # of a message of output
GROWS = "\U0001f600"  # one such character, and Python takes four bytes for each of a text
ESCAPES = "\x1b]0;OWNED\x07 \x1b[2J\x1b[31mOWNED \x9b31m \u202eDENWO\u202c \u2066x\u2069 \x07\x08\r\u200b\x1bc"


class Host:
    """The host as the guest sees it: frames in and out."""

    def __init__(self) -> None:
        self.comm_id = self.cell_id = ""
        self.unread: list[tuple[int, list[bytes]]] = []

    def receive(self) -> tuple[int, list[bytes]]:
        if self.unread:
            return self.unread.pop(0)
        (length,) = struct.unpack(">I", self._read(4))
        frame = self._read(length)
        parts, at = [], 1
        while at < length:
            (size,) = struct.unpack_from(">I", frame, at)
            parts.append(frame[at + 4 : at + 4 + size])
            at += 4 + size
        return frame[0], parts

    def _read(self, count: int) -> bytes:
        pieces = []
        while count:
            piece = os.read(0, count)
            if not piece:
                os._exit(0)
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def raw(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(1, view) :]
        except OSError:
            os._exit(0)

    def frame(self, channel: int, parts: list[bytes]) -> bytes:
        body = b"".join(struct.pack(">I", len(part)) + part for part in parts)
        return struct.pack(">IB", 1 + len(body), channel) + body

    def message(
        self, channel: int, kind: str, content: Any, *buffers: bytes, parent: str | None = None, metadata: Any = b"{}"
    ) -> bytes:
        """A Jupyter message; JSON parts may be given as bytes. Its parent is the running cell if none is named."""
        header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "session": "s", "username": "k", "version": "5.4"}
        values = [header, {"msg_id": self.cell_id if parent is None else parent}, metadata, content]
        body = [value if isinstance(value, bytes) else json.dumps(value).encode() for value in values]
        return self.frame(channel, [b"<IDS|MSG>", b"", *body, *buffers])

    def say(self, channel: int, kind: str, content: Any, *buffers: bytes, **more: Any) -> None:
        self.raw(self.message(channel, kind, content, *buffers, **more))

    def prints(self, text: str, **more: Any) -> None:
        self.say(IOPUB, "stream", {"name": "stdout", "text": text}, **more)

    def idle(self, **more: Any) -> None:
        self.say(IOPUB, "status", {"execution_state": "idle"}, **more)

    def replies(
        self, kind: str = "execute_reply", content: Any = b'{"status":"ok"}', *buffers: bytes, **more: Any
    ) -> None:
        self.say(SHELL, kind, content, *buffers, **more)

    def query(self, *prompts: bytes, call_id: str = "", comm_id: str | None = None) -> bytes:
        count = len(prompts)
        data: dict[str, Any] = {"kind": "query" if count == 1 else "batch", "id": call_id or uuid.uuid4().hex}
        data |= {"indexes": list(range(count)), "has_data": [False] * count}
        content = {"comm_id": self.comm_id if comm_id is None else comm_id, "data": data}
        return self.message(CALLS, "comm_msg", content, *prompts)

    def comm(self, data: Any, *buffers: bytes) -> None:
        channel = IOPUB if data["kind"] in ("answer", "report") else CALLS
        self.say(channel, "comm_msg", {"comm_id": self.comm_id, "data": data}, *buffers)

    def answers(self, count: int) -> int:
        """Wait for so many results of queries; how many of them are refusals."""
        refused = 0
        while count > 0:
            channel, parts = self.receive()
            if channel == CALLS:
                results = json.loads(parts[5])["data"]["results"]
                count -= len(results)
                refused += sum("error" in result for result in results)
        return refused


# ------------------------------------------------------------------------------------------------------------- frames


def four_gigabytes(host: Host) -> None:
    host.raw(b"\xff\xff\xff\xff\3" + b"x" * 100)


def zero_length(host: Host) -> None:
    host.raw(b"\0\0\0\0")


def lying_part(host: Host) -> None:
    host.raw(struct.pack(">IBI", 9, IOPUB, 1 << 31) + b"abcd")


def endless_parts(host: Host) -> None:
    host.raw(host.frame(IOPUB, [b""] * 100_000))


def half_frame_and_gone(host: Host) -> NoReturn:
    host.raw(host.query(b"x" * FULL)[: 3 * MIB])
    os._exit(0)


def half_frame_for_ever(host: Host) -> NoReturn:
    host.raw(host.query(b"x" * FULL)[: 3 * MIB])
    hang()


def slow_drip(host: Host) -> NoReturn:
    """A byte a second; of one frame, all of it legal."""
    for byte in host.query(b"x" * 1000):
        host.raw(bytes([byte]))
        time.sleep(1)
    hang()


def never_reading(host: Host) -> NoReturn:
    """Queries whose answers nobody takes."""
    while True:
        host.raw(host.query(b"x"))


def hang() -> NoReturn:
    while True:
        time.sleep(60)


# ------------------------------------------------------------------------------------------------------------ content


def deep_json(host: Host) -> None:
    host.say(IOPUB, "stream", b'{"name":"stdout","text":"","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def huge_int(host: Host) -> None:
    host.replies(metadata=b'{"airlock":{"stdout_chars":' + b"9" * 60_000 + b"}}")


def nan(host: Host) -> None:
    host.replies(metadata=b'{"airlock":{"stdout_chars":NaN}}')


def infinity(host: Host) -> None:
    start = json.dumps({"comm_id": host.comm_id}).encode()[:-1]
    host.say(IOPUB, "comm_msg", start + b',"data":{"kind":"report","values":{"x":-Infinity}}}')


def duplicate_keys(host: Host) -> None:
    """The last one counts, as everywhere."""
    host.say(IOPUB, "stream", b'{"name":"stderr","name":"stdout","text":"first","text":"last"}')


def escaped_surrogate(host: Host) -> None:
    host.say(IOPUB, "stream", b'{"name":"stdout","text":"\\ud800"}')


def raw_surrogate(host: Host) -> None:
    host.say(IOPUB, "stream", b'{"name":"stdout","text":"a\xed\xa0\x80b"}')


def wrong_types(host: Host) -> None:
    host.replies(content={"status": "error", "ename": ["x"], "evalue": {}, "traceback": 1})


def endless_traceback(host: Host) -> None:
    host.replies(content={"status": "error", "ename": "E", "evalue": "v", "traceback": [""] * 1_000_000})


def growing_output(host: Host) -> None:
    """The longest legal messages, each of which becomes four times as large as a text."""
    text = json.dumps({"name": "stdout", "text": ""}).encode()[:-2] + b"x" * OUTPUT + GROWS.encode() + b'"}'
    for _ in range(100):
        host.say(IOPUB, "stream", text)


def invalid_utf8(host: Host) -> None:
    for _ in range(10):
        host.say(IOPUB, "stream", b'{"name":"stdout","text":"' + b"\xff" * (OUTPUT // 3) + b'"}')


def growing_answer(host: Host) -> None:
    host.comm({"kind": "answer"}, b"x" * (FULL // 2 - 4) + GROWS.encode())
    growing_output(host)


def growing_answer_too_large(host: Host) -> None:
    host.comm({"kind": "answer"}, b"x" * (FULL // 2) + GROWS.encode())


def growing_prompts(host: Host) -> NoReturn:
    """As much as the host takes of prompts that are not answered, and a frame more."""
    while True:
        host.raw(host.query(b"x" * (PROMPT - 4) + GROWS.encode()))


def growing_batches(host: Host) -> NoReturn:
    while True:
        host.raw(host.query(*[b"x" * 4000 + GROWS.encode()] * 500))


def reports(host: Host) -> None:
    values = {f"name{n}": [0.5] * 9 for n in range(30)}
    for _ in range(5_000):
        host.comm({"kind": "report", "values": values})


def pictures(host: Host) -> None:
    bundle = {"text/plain": "plain", "text/html": "<script>OWNED</script>" * 1000, "image/png": "A" * 100_000}
    host.say(IOPUB, "execute_result", {"data": bundle, "metadata": {}, "execution_count": 1})


def displayed_picture(host: Host) -> None:
    host.say(IOPUB, "display_data", {"data": {"text/plain": "plain", "image/png": "A" * MIB}, "metadata": {}})


def password(host: Host) -> None:
    host.say(4, "input_request", {"prompt": "password: ", "password": True})


def terminal(host: Host) -> None:
    """What a terminal obeys, wherever the host reads text."""
    host.prints(f"stdout {ESCAPES}\n")
    host.say(IOPUB, "stream", {"name": "stderr", "text": f"stderr {ESCAPES}\n"})
    host.say(IOPUB, "execute_result", {"data": {"text/plain": f"value {ESCAPES}"}})
    host.raw(host.query(f"prompt {ESCAPES}".encode()))
    host.answers(1)
    error = {"ename": f"Name{ESCAPES}", "evalue": f"text {ESCAPES}", "traceback": [f"trace {ESCAPES}"]}
    host.replies(content={"status": "error", **error})
    host.idle()


def terminal_by_type(host: Host) -> None:
    """In a place that ends in the host's own words: an error of the protocol."""
    host.say(IOPUB, f"x{ESCAPES}", {})


def terminal_by_answer(host: Host) -> None:
    host.comm({"kind": "answer"}, f"answer {ESCAPES}".encode())


# ----------------------------------------------------------------------------------------------------------- identity


def forged_parents(host: Host) -> None:
    for parent in ("", "0" * 32, host.comm_id, "../../x", "x" * 64):
        host.prints("late", parent=parent)
        host.idle(parent=parent)


def early_idle(host: Host) -> None:
    host.idle()
    host.prints("after")


def second_reply(host: Host) -> None:
    host.replies()
    host.replies()


def reply_to_another(host: Host) -> None:
    host.replies(parent=uuid.uuid4().hex)


def reply_of_another_kind(host: Host) -> None:
    host.replies("airlock_value_reply", b'{"status":"ok"}', b"1")


def another_comm(host: Host) -> None:
    host.raw(host.query(b"x", comm_id=uuid.uuid4().hex))


def query_twice(host: Host) -> None:
    call_id = uuid.uuid4().hex
    host.raw(host.query(b"x", call_id=call_id) + host.query(b"y", call_id=call_id))


def query_again(host: Host) -> None:
    """An id that has been answered, and ids in order: each is a query like any other, and is paid for."""
    for number in range(20):
        for _ in range(2):
            host.raw(host.query(b"x", call_id=f"{number:032x}"))
            host.answers(1)
            time.sleep(0.005)  # what ends a query in the host comes a moment after its answer


def answer_after_the_cell(host: Host) -> None:
    host.replies()
    host.idle()
    time.sleep(0.3)
    host.comm({"kind": "answer"}, b"late")


def two_answers(host: Host) -> None:
    host.comm({"kind": "answer"}, b"one")
    host.comm({"kind": "answer"}, b"two")


def dead_and_alive(host: Host) -> NoReturn:
    host.raw(host.frame(RELAY, [b'{"event":"kernel_exit","code":0}']))
    hang()


# ------------------------------------------------------------------------------------------------------------- floods


def output_flood(host: Host) -> NoReturn:
    while True:
        host.prints("x" * 60_000)


def small_output_flood(host: Host) -> NoReturn:
    many = host.message(IOPUB, "stream", {"name": "stdout", "text": ""}) * 100
    while True:
        host.raw(many)


def comm_open_storm(host: Host) -> NoReturn:
    while True:
        host.say(IOPUB, "comm_open", {"comm_id": uuid.uuid4().hex, "target_name": "x", "data": {}})


def hello_storm(host: Host) -> NoReturn:
    while True:
        host.raw(host.frame(RELAY, [b'{"event":"hello"}']) * 100)


def million_queries(host: Host) -> NoReturn:
    """Reads what it is answered, so that only their number can end it."""
    while True:
        host.raw(b"".join(host.query(b"x") for _ in range(100)))
        host.answers(100)


def million_in_batches(host: Host) -> NoReturn:
    while True:
        host.raw(host.query(*[b"x"] * 500))
        host.answers(500)


def too_large_a_prompt(host: Host) -> None:
    host.raw(host.query(b"x" * (PROMPT + 1)))


def long_output(host: Host) -> None:
    host.prints("x" * (2 * OUTPUT))


# ----------------------------------------------------------------------------------------- child runs and tools


def piece(host: Host, raw: bytes, *, upload: str = "0" * 32, form: str = "text") -> bytes:
    """Of a context on its way to a child run."""
    content = {"comm_id": host.comm_id, "data": {"kind": "piece", "id": upload, "form": form}}
    return host.message(CALLS, "comm_msg", content, raw)


def endless_context(host: Host) -> NoReturn:
    while True:
        host.raw(piece(host, b"x" * MIB))


def endless_empty_pieces(host: Host) -> NoReturn:
    many = piece(host, b"") * 100
    while True:
        host.raw(many)


def many_contexts(host: Host) -> NoReturn:
    while True:
        host.raw(piece(host, b"x", upload=uuid.uuid4().hex))


def context_of_two_forms(host: Host) -> None:
    host.raw(piece(host, b"x") + piece(host, b"x", form="json"))


def too_large_a_piece(host: Host) -> None:
    host.raw(piece(host, b"x" * (MIB + 1)))


def children_of_nothing(host: Host) -> None:
    """Of a context that never came, and of one that is too large and was dropped."""
    host.raw(b"".join(piece(host, b"x" * MIB) for _ in range(9)))
    for upload in ("1" * 32, "0" * 32, "0" * 32):
        host.comm({"kind": "child", "id": uuid.uuid4().hex, "indexes": [0], "uploads": [upload]}, b"x")
    host.prints(f"{host.answers(3)} refused")


def children_that_do_not_match(host: Host) -> None:
    host.comm({"kind": "child", "id": uuid.uuid4().hex, "indexes": [0, 1], "uploads": [None]}, b"x")


def another_tool(host: Host) -> None:
    host.comm({"kind": "tool", "id": uuid.uuid4().hex, "name": f"lookup{ESCAPES}"[:64]}, b"{}")


def too_large_a_tool_call(host: Host) -> None:
    host.comm({"kind": "tool", "id": uuid.uuid4().hex, "name": "lookup"}, b"x" * (TOOL + 1))


def after_the_limit(host: Host) -> None:
    refused = 0
    for _ in range(40):
        host.raw(b"".join(host.query(b"x") for _ in range(50)))
        refused += host.answers(50)
    host.prints(f"{refused} refused")


def gigabytes_after_the_limit(host: Host) -> NoReturn:
    while True:
        host.raw(host.query(b"x" * PROMPT))
        host.answers(1)


def stderr_flood(host: Host) -> NoReturn:
    """Beside the frames: where the engine takes the two streams apart."""
    while True:
        os.write(2, b"\x1b[31mOWNED" * 1000)


def busy_loop(host: Host) -> None:
    """Sends nothing: the time that any cell may burn, with which the others are compared."""
    ends = time.monotonic() + 2
    while time.monotonic() < ends:
        pass


def silent_start(host: Host) -> NoReturn:
    hang()


def harmless(host: Host) -> None:
    host.prints("hello")


# -------------------------------------------------------------------------------------------------------------- values

VALUES: dict[str, bytes] = {
    "growing_lists": b"[" + b"[]," * (FULL // 3 - 2) + b"[]]",
    "growing_objects": b"[" + b'{"a":1},' * (FULL // 8 - 2) + b"{}]",
    "growing_string": b'"\\ud83d\\ude00' + b"x" * (FULL // 2 - 20) + b'"',
    "growing_string_too_large": b'"\\ud83d\\ude00' + b"x" * (FULL - 20) + b'"',
    "deep_value": b"[" * 100_000 + b"]" * 100_000,
    "nan_value": b"[NaN]",
}
"""What is handed out as a variable's value; the cell before it is honest."""

AT_START: dict[str, Callable[[Host], None]] = {"hello_storm": hello_storm, "silent_start": silent_start}
IN_CELL: dict[str, Callable[[Host], None]] = {
    attack.__name__: attack
    for attack in (
        four_gigabytes, zero_length, lying_part, endless_parts, half_frame_and_gone, half_frame_for_ever,
        slow_drip, never_reading, deep_json, huge_int, nan, infinity, duplicate_keys, escaped_surrogate,
        raw_surrogate, wrong_types, endless_traceback, growing_output, invalid_utf8, growing_answer,
        growing_answer_too_large,
        growing_prompts, growing_batches, reports, pictures, displayed_picture, password, terminal,
        terminal_by_type, terminal_by_answer, forged_parents, early_idle, second_reply, reply_to_another,
        reply_of_another_kind, another_comm, query_twice, query_again, answer_after_the_cell, two_answers,
        dead_and_alive, output_flood, small_output_flood, comm_open_storm, million_queries,
        endless_context, endless_empty_pieces, many_contexts, context_of_two_forms, too_large_a_piece,
        children_of_nothing, children_that_do_not_match, another_tool, too_large_a_tool_call,
        million_in_batches, after_the_limit, gigabytes_after_the_limit, too_large_a_prompt, long_output,
        harmless,
    )
}  # fmt: skip
IN_A_BOX: dict[str, Callable[[Host], None]] = {"stderr_flood": stderr_flood}
CONTROL_LOAD: dict[str, Callable[[Host], None]] = {"busy_loop": busy_loop}
ANSWERED_ALREADY = {"terminal", "answer_after_the_cell", "second_reply"}


def main(name: str) -> None:
    host = Host()
    assert name in {**IN_CELL, **IN_A_BOX, **CONTROL_LOAD, **AT_START, **VALUES}
    while True:
        channel, parts = host.receive()
        if channel == RELAY and parts == [b"{}"]:
            host.raw(host.frame(RELAY, [b'{"event":"hello"}']))
            host.say(IOPUB, "iopub_welcome", {})
            if name in AT_START:
                AT_START[name](host)
        elif channel == SHELL:
            serve(host, name, json.loads(parts[2]), json.loads(parts[5]))


def serve(host: Host, name: str, header: dict[str, Any], content: dict[str, Any]) -> None:
    kind, host.cell_id = header["msg_type"], header["msg_id"]
    if kind == "execute_request":
        (IN_CELL | IN_A_BOX | CONTROL_LOAD).get(name, harmless)(host)
        if name not in ANSWERED_ALREADY:
            host.replies()
            host.idle()
    elif kind == "airlock_value_request":
        host.replies("airlock_value_reply", b'{"status":"ok"}', VALUES.get(name, b"1"))
    elif kind.startswith("airlock_"):
        host.comm_id = content.get("comm_id", host.comm_id)
        host.replies(kind.replace("_request", "_reply"))
    else:
        host.say(SHELL, "kernel_info_reply", {})


if __name__ == "__main__":
    main(sys.argv[1])
