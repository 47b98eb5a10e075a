"""The byte stream of one box: frames in, frames out, with caps and deadlines."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from sandbox.errors import BoxGone, ProtocolViolation
from sandbox.frames import FrameDecoder

WRITE_TIMEOUT_S: Final = 10.0
"""A box that does not read for so long is stuck: its relay never blocks."""
_READ_BYTES: Final = 1 << 16
_STDERR_BYTES: Final = 4096
MAX_STDERR_BYTES: Final = 1 << 20
"""A relay that fails says so in a traceback, and ends."""


class Link:
    """Frames to and from one box.

    Args:
        reader: The stream from the box.
        writer: The stream to the box.
        multiplexed: Whether the engine wraps the stream's chunks (``u8 stream | 3 bytes | u32 length``), as Docker
            does where there is no terminal. The engine is trusted, what is inside the chunks is not.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, multiplexed: bool) -> None:
        self._reader = reader
        self._writer = writer
        self._multiplexed = multiplexed
        self._writing = asyncio.Lock()
        self._stderr_bytes = 0
        self.stderr = b""
        """Last bytes the relay wrote to stderr: a crash of its own. From the box, so show it escaped."""

    async def frames(self) -> AsyncIterator[tuple[int, list[bytes]]]:
        """Yield (channel, parts) until the stream ends.

        Raises:
            ProtocolViolation: The bytes are no frames, or there are too many on stderr.
        """
        decoder = FrameDecoder()
        async for data in self._chunks() if self._multiplexed else self._bytes():
            for frame in decoder.feed(data):
                yield frame

    async def _bytes(self) -> AsyncIterator[bytes]:
        with contextlib.suppress(ConnectionError):
            while (data := await self._reader.read(_READ_BYTES)) and not self.closed:
                yield data

    async def _chunks(self) -> AsyncIterator[bytes]:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                header = await self._reader.readexactly(8)
                left = int.from_bytes(header[4:])
                while left:
                    data = await self._reader.read(min(left, _READ_BYTES))
                    if not data or self.closed:
                        return
                    left -= len(data)
                    if header[0] == 1:
                        yield data
                    else:
                        self._take_stderr(data)

    def _take_stderr(self, data: bytes) -> None:
        self._stderr_bytes += len(data)
        if self._stderr_bytes > MAX_STDERR_BYTES:
            raise ProtocolViolation(f"more than {MAX_STDERR_BYTES:,} bytes on stderr")
        self.stderr = (self.stderr + data)[-_STDERR_BYTES:]

    async def send(self, frame: bytes) -> None:
        """Write one frame.

        Raises:
            BoxGone: The box has gone, or has not read for `WRITE_TIMEOUT_S`.
        """
        async with self._writing:
            if self.closed:
                raise BoxGone("the box has closed its stream")
            try:
                self._writer.write(frame)
                if self._writer.transport.get_write_buffer_size():
                    async with asyncio.timeout(WRITE_TIMEOUT_S):
                        await self._writer.drain()
            except TimeoutError:
                self.abort()
                raise BoxGone("the box has stopped reading") from None
            except (ConnectionError, RuntimeError) as error:
                raise BoxGone("the box has closed its stream") from error

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more. What still comes is not read: a box may go on for ever."""
        return self._writer.is_closing()

    def abort(self) -> None:
        """Close the stream; for the box that is the end of its stdin. Never waits for a box that does not read."""
        if not self.closed:  # asyncio's pipes can't be aborted twice
            self._writer.transport.abort()
