"""Replies of sub-models, kept for the next time that the same is asked: in memory, or on disk where somebody wants it.

SQLite keeps them, in memory too: bytes of text under a SHA-256, and the least used go first. The usual libraries for
caches on disk unpickle what they find there, so that whoever can write the file could run code here; this takes what it
finds for text.

What is kept is the provider's raw reply. Policies are asked about a request before it is looked up, and about the reply
each time it is given, so that nothing gets around them by being asked twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import sqlite3
import stat
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from orchestrator.errors import ConfigError
from orchestrator.limits import GIB, KIB, MIB
from orchestrator.providers.base import Message, ModelReply, Provider
from orchestrator.providers.parameters import parameters_of

DEFAULT_MEMORY_BYTES: Final = 64 * MIB
DEFAULT_DISK_BYTES: Final = GIB
MAX_HITS: Final = 10_000
"""Replies that one recursion tree is given for nothing; after that it pays, which bounds what a cell can make the host
keep of them."""
MAX_HIT_BYTES: Final = 64 * MIB
"""Memory of these, with their prompts, which one emoji makes four times as large as their UTF-8; likewise."""
_LEAST_BYTES: Final = 64 * KIB
_FILE: Final = "replies-1.sqlite"
_BUSY_S: Final = 0.05  # another process writes: then this one does without

_log = logging.getLogger(__name__)


class ReplyCache:
    """Replies by what was asked. May be shared by any number of `RLM`, threads and, on disk, processes.

    Args:
        directory: Where to keep them (0700); made where it is missing. By default they are kept in memory. On disk
            stand the replies, which quote the document, until somebody removes the directory; of the prompts it has a
            digest, by which a short one can be guessed.
        max_bytes: What they may take, 64 KiB and more; by default 64 MiB in memory and 1 GiB on disk.

    Raises:
        ConfigError: The directory can't be used, or others than its owner can read or write it.
    """

    def __init__(self, directory: str | Path | None = None, *, max_bytes: int | None = None) -> None:
        default = DEFAULT_MEMORY_BYTES if directory is None else DEFAULT_DISK_BYTES
        self._max_bytes = default if max_bytes is None else max_bytes
        if isinstance(self._max_bytes, bool) or not isinstance(self._max_bytes, int) or self._max_bytes < _LEAST_BYTES:
            raise ConfigError(f"ReplyCache.max_bytes: {max_bytes!r} is not an integer of {_LEAST_BYTES:,} or more")
        self._lock = threading.Lock()
        where = ":memory:" if directory is None else str(_file_in(Path(directory)))
        try:
            self._base = sqlite3.connect(where, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            weakref.finalize(self, self._base.close)
            for line in _SCHEMA:
                self._base.execute(line)
        except sqlite3.Error as error:
            raise ConfigError(f"cache: {where}: {error}") from error

    def get(self, key: bytes) -> str | None:
        """The reply that is kept under a key, or None."""
        with self._used():
            row = self._base.execute("SELECT raw FROM replies WHERE key = ?", (key,)).fetchone()
            if row is not None and isinstance(row[0], bytes):
                self._base.execute("UPDATE replies SET used = ? WHERE key = ?", (time.time_ns(), key))
                return row[0].decode("utf-8", "surrogatepass")
        return None

    def put(self, key: bytes, text: str) -> None:
        """Keep a reply. Those used longest ago make room; one that is larger than all the room is not kept."""
        raw = text.encode("utf-8", "surrogatepass")
        if len(raw) > self._max_bytes // 2:
            return
        with self._used():
            self._base.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?)", (key, raw, time.time_ns()))
            while self._size_bytes() > self._max_bytes and self._base.execute(_DROP_OLDEST).rowcount:
                pass

    def _size_bytes(self) -> int:
        (pages, free, page_bytes) = (
            self._base.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * page_bytes)

    @contextlib.contextmanager
    def _used(self) -> Iterator[None]:
        """A cache that is broken or busy is one that has nothing: no run ends of it."""
        try:
            with self._lock:
                yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            _log.warning("the cache of replies: %s", error)


_SCHEMA: Final = (
    "PRAGMA trusted_schema = OFF",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "CREATE TABLE IF NOT EXISTS replies (key BLOB PRIMARY KEY, raw BLOB NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS replies_by_use ON replies (used)",
)
_DROP_OLDEST: Final = (
    "DELETE FROM replies WHERE key IN "
    "(SELECT key FROM replies ORDER BY used LIMIT (SELECT 1 + count(*) / 16 FROM replies))"
)


def _file_in(directory: Path) -> Path:
    shown = repr(str(directory))
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = directory.stat()
        if facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) & 0o077:
            raise ConfigError(f"cache: {shown} is open to others than you: the replies quote documents. chmod 700 it")
        os.close(os.open(directory / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    except OSError as error:
        raise ConfigError(f"cache: {shown} can't be used: {error.strerror}") from error
    return directory / _FILE


def key_of(model: Provider, messages: Sequence[Message], nonce: str) -> bytes:
    """What a reply is kept under: the model, its parameters and all that it is sent but for the call's nonce.

    Of a caller's own class the parameters are but what may be shown of them; its ``identity`` is all of them.

    The messages are cut at the nonce, which no text that a cell wrote can hold, so no data can pass for a prompt.
    """
    said = [[message.role, message.content.split(nonce) if nonce else [message.content]] for message in messages]
    identity = str(getattr(model, "identity", ""))
    asked = json.dumps([model.name, parameters_of(model), identity, said], sort_keys=True)
    return hashlib.sha256(asked.encode()).digest()


class TreeCache:
    """A cache, as one recursion tree may use it.

    Args:
        cache: What keeps the replies.
        max_reply_bytes: A longer one is none for this tree.
    """

    def __init__(self, cache: ReplyCache, *, max_reply_bytes: int) -> None:
        self._cache = cache
        self._max_reply_bytes = max_reply_bytes
        self._hits = self._hit_bytes = 0

    @property
    def open(self) -> bool:
        """Whether anything more is given for nothing."""
        return self._hits < MAX_HITS and self._hit_bytes < MAX_HIT_BYTES

    def find(self, key: bytes, messages: Sequence[Message]) -> str | None:
        """The reply to the same question, or None."""
        text = self._cache.get(key)
        if text is None or len(text.encode("utf-8", "surrogatepass")) > self._max_reply_bytes:
            return None
        self._hits += 1
        self._hit_bytes += sys.getsizeof(text) + sum(sys.getsizeof(message.content) for message in messages)
        return text

    def keep(self, key: bytes, reply: ModelReply) -> None:
        """Keep a reply that the model ended by itself."""
        if reply.finish_reason == "stop" and reply.text:
            self._cache.put(key, reply.text)


def checked_cache(cache: object) -> ReplyCache | None:
    """The cache that a caller means: None, ``"memory"``, a directory, or a `ReplyCache`.

    Raises:
        ConfigError: It is none of these, or the directory can't be used.
    """
    if cache is None or isinstance(cache, ReplyCache):
        return cache
    if cache == "memory":
        return ReplyCache()
    if isinstance(cache, str | Path) and str(cache).strip():
        return ReplyCache(cache)
    raise ConfigError(f"cache: {cache!r:.80} is neither 'memory', nor a directory, nor a ReplyCache")
