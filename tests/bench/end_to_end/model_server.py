"""A model of a stated latency behind OpenAI's chat completions, played by `script.reply`. Prints its port.

    python -m tests.bench.end_to_end.model_server LATENCY_S

Of the standard library alone, and with as little work for each call as it takes. Ends when its stdin does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from tests.bench.end_to_end.script import reply
from tests.bench.own_process import REPOSITORY

USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


def _answer(asked: dict[str, Any]) -> tuple[str, bytes]:
    """Content type and body."""
    text = reply(asked["messages"])
    head = {"id": "1", "created": 1, "model": asked["model"]}
    if not asked.get("stream"):
        message = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        whole = {**head, "object": "chat.completion", "choices": [message], "usage": USAGE}
        return "application/json", json.dumps(whole).encode()
    piece = {"index": 0, "finish_reason": "stop", "delta": {"role": "assistant", "content": text}}
    chunks: list[dict[str, Any]] = [{"choices": [piece]}, {"choices": [], "usage": USAGE}]
    lines = [json.dumps({**head, "object": "chat.completion.chunk", **chunk}) for chunk in chunks]
    return "text/event-stream", "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode()


async def _serve(latency_s: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                size = int(head.split("content-length:")[1].split("\r\n")[0])
                asked = json.loads(await reader.readexactly(size))
                await asyncio.sleep(latency_s)
                kind, body = _answer(asked)
                writer.write(
                    f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
                )
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 24, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await asyncio.to_thread(sys.stdin.read)


@contextlib.contextmanager
def model_server(latency_s: float) -> Iterator[tuple[str, int]]:
    """Start one; its address with ``/v1``, and the number of its process."""
    command = [sys.executable, "-m", "tests.bench.end_to_end.model_server", str(latency_s)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1", server.pid
        finally:
            server.stdin.close()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(float(sys.argv[1])))
