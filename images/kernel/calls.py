"""The kernel's way to the host for what a cell asks and waits for: sub-calls, child runs, tools.

Jupyter's comm messages, on two sockets of their own beside Jupyter's channels. The stock way takes a message through
the thread of the output and its answer through the control thread, each with an event loop, and tells the host
that it is busy and idle again for each: that was most of the time of a sub-call. Here the thread that asks sends, and
one thread takes the answers.

In the box a message is one piece (all its parts, each after its length): a signal that ends a cell can't cut it in two.
"""

import json
import struct
import threading
import uuid
from collections.abc import Callable
from typing import Any

import zmq

LENGTH = struct.Struct(">I")
COMM_MSG = b'{"msg_type":"comm_msg","username":"","session":"","date":"","version":"5.4","msg_id":"%s"}'


def endpoint(run_dir: str, number: int) -> str:
    """Address of a socket: 1 shell, 2 control, 3 iopub, 4 the pipe of forked children, 5 calls, 6 their answers."""
    return f"ipc://{run_dir}/{number}"


class Calls:
    """Sends from any thread, and hands out what the host answers."""

    def __init__(self, context: "zmq.Context[Any]", to_host: str, from_host: str) -> None:
        self._lock = threading.Lock()  # a ZeroMQ socket is for one thread at a time
        self._out = context.socket(zmq.PUSH)
        self._out.bind(to_host)
        self._in = context.socket(zmq.PULL)
        self._in.bind(from_host)

    def send(self, comm_id: str, data: dict[str, Any], buffers: list[bytes]) -> None:
        """Send one message. Waits for nobody but a relay that starts: the queue's end is the box's memory."""
        content = json.dumps({"comm_id": comm_id, "data": data}).encode()
        header = COMM_MSG % uuid.uuid4().hex.encode()
        piece = b"".join(
            bytes_
            for part in (b"<IDS|MSG>", b"", header, b"{}", b"{}", content, *buffers)
            for bytes_ in (LENGTH.pack(len(part)), part)
        )
        with self._lock:
            self._out.send(piece)

    def serve(self, on_message: Callable[[dict[str, Any]], None]) -> None:
        """Hand each message of the host to `on_message`, in a thread of their own, for as long as the kernel lives."""
        threading.Thread(target=self._serve, args=(on_message,), name="Answers", daemon=True).start()

    def _serve(self, on_message: Callable[[dict[str, Any]], None]) -> None:
        while True:
            try:
                _, _, _, _, metadata, content, *buffers = split_parts(self._in.recv())
                on_message({"metadata": json.loads(metadata), "content": json.loads(content), "buffers": buffers})
            except zmq.ZMQError:  # a cell has closed the socket
                return
            except Exception:
                pass  # no memory for this one, maybe for the next


def split_parts(piece: bytes) -> list[bytes]:
    """The parts of a message, or of a frame after its head."""
    parts, at = [], 0
    while at < len(piece):
        (length,) = LENGTH.unpack_from(piece, at)
        parts.append(piece[at + 4 : at + 4 + length])
        at += 4 + length
    return parts
