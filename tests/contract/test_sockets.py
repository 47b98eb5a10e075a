"""What a well-behaved server never does, over a real socket: dead kept connections and replies without an end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.errors import ProviderError
from orchestrator.limits import Deadline
from orchestrator.retry import with_retries
from tests.contract.vendors import KEY, Interface, Vendor, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


async def read_request(reader: asyncio.StreamReader) -> None:
    """Read one request with its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    await reader.readexactly(int(length))


def whole(body: bytes) -> bytes:
    """A response that leaves the connection open."""
    return HEAD + b"content-length: %d\r\n\r\n%s" % (len(body), body)


@asynccontextmanager
async def served(vendor: Vendor, serve: Serve, **settings: Any) -> AsyncIterator[Interface]:
    """An interface whose server runs `serve` for each connection and then closes it."""
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.create_task(handle(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    llm = vendor.interface("some-model", base_url=f"http://127.0.0.1:{port}", api_key=KEY, **settings)
    async with server:
        yield llm
        await llm.aclose()
        async with asyncio.timeout(10):  # every handler ends once its client has hung up
            await asyncio.gather(*handlers)


async def test_a_dead_kept_connection_is_retried_at_once(vendor: Vendor) -> None:
    waits: list[float] = []
    answered = 0

    async def one_reply_a_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answered
        await read_request(reader)
        answered += 1
        writer.write(whole(vendor.reply("fine")))
        await read_request(reader)  # the second request on the kept connection gets no answer

    async def note(wait_s: float) -> None:
        waits.append(wait_s)

    async with served(vendor, one_reply_a_connection) as llm:
        for _ in range(3):
            reply = await with_retries(lambda: llm.complete(request()), deadline=Deadline(20), sleep=note)
            assert reply.text == "fine"
    assert answered == 3
    assert waits == [0.0, 0.0]


async def test_no_server_can_send_a_request_on_to_another_place(vendor: Vendor) -> None:
    """It would have the text, and every stop on the way too, though only one sending was allowed and counted."""
    asked: list[str] = []

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n")).decode())
        writer.write(b"HTTP/1.1 307 X\r\nlocation: /elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    async with served(vendor, elsewhere) as llm:
        with pytest.raises(ProviderError, match="the server answered 307") as caught:
            await llm.complete(request())
    assert len(asked) == 1
    assert not caught.value.retryable


async def test_nobody_listens(vendor: Vendor) -> None:
    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Never called: the server is closed before the request."""

    async with served(vendor, nothing) as llm:
        pass
    with pytest.raises(
        ProviderError, match=r"the connection failed: .* at http://127\.0\.0\.1:\d+; does the server"
    ) as caught:
        await llm.complete(request())
    assert caught.value.retryable
    assert caught.value.status is None
    assert caught.value.refused, "nothing was sent, so that nothing can have been billed"


@pytest.mark.parametrize("status", [b"200 OK", b"404 Not Found"])
async def test_a_page_is_no_api(vendor: Vendor, status: bytes) -> None:
    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        head = b"HTTP/1.1 " + status + b"\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: 6\r\n\r\n"
        writer.write(head + b"<html>")

    async with served(vendor, page) as llm:
        with pytest.raises(ProviderError, match=rf"this is no {llm.api}-compatible API at http.*text/html") as caught:
            await llm.complete(request())
    assert not caught.value.retryable


async def test_a_connection_that_breaks_behind_the_request_may_have_been_billed(vendor: Vendor) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)

    async with served(vendor, hang_up) as llm:
        with pytest.raises(ProviderError, match="the connection failed: ") as caught:
            await llm.complete(request())
        assert (caught.value.retryable, caught.value.refused) == (True, False)


async def test_an_endless_reply_is_cut(vendor: Vendor) -> None:
    hung_up = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HEAD + b"connection: close\r\n\r\n" + vendor.beginning())
        try:
            while True:
                writer.write(vendor.text_event("and on " * 100))
                await writer.drain()
        finally:
            hung_up.set()

    async with served(vendor, endless) as llm:
        with pytest.raises(ProviderError, match="longer than 50,000 bytes") as caught:
            await llm.complete(request(max_reply_bytes=50_000))
        assert (caught.value.retryable, caught.value.refused) == (False, False)
        async with asyncio.timeout(10):
            await hung_up.wait()


@pytest.mark.parametrize("status", [200, 400])
async def test_endless_bytes_without_text_are_cut(vendor: Vendor, status: int) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        head = HEAD.replace(b"200 OK", b"%d X" % status)
        writer.write(head + b"connection: close\r\n\r\n" + vendor.beginning())
        while True:
            writer.write(b": " + b"x" * 500_000 + b"\n\n")
            await writer.drain()

    async with served(vendor, endless, max_tokens=1) as llm:
        with pytest.raises(ProviderError, match="for one reply") as caught:
            await llm.complete(request())
        assert not caught.value.retryable


async def test_a_reply_is_whole_when_the_server_forgets_to_end_the_stream(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.providers.sdk._TRAILER_S", 0.1)

    async def never_ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        body = vendor.reply("whole").removesuffix(b"data: [DONE]\n\n")
        writer.write(HEAD + b"connection: close\r\n\r\n" + body)
        await reader.read()

    async with served(vendor, never_ends) as llm:
        reply = await llm.complete(request())
    assert reply.text == "whole"
    assert reply.usage.output_tokens == 4


async def test_a_cancelled_call_hangs_up(vendor: Vendor) -> None:
    asked, hung_up = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        asked.set()
        await reader.read()
        hung_up.set()

    async with served(vendor, silent) as llm:
        call = asyncio.create_task(llm.complete(request()))
        await asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(10):
            await hung_up.wait()


async def test_a_forgotten_interface_closes_its_connections(vendor: Vendor) -> None:
    hung_up = asyncio.Event()

    async def one_reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(whole(vendor.reply("fine")))
        await reader.read()
        hung_up.set()

    async with served(vendor, one_reply) as llm:
        other = vendor.interface("some-model", base_url=llm._base_url, api_key=KEY)
        assert await asyncio.to_thread(other.query, "hello") == "fine"
        del other
        gc.collect()
        async with asyncio.timeout(10):
            await hung_up.wait()
