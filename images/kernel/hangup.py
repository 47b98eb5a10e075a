"""Ends the box where its host goes away during the relay's own start. Imported before all that takes long to import.

The relay reads its stdin only when it is up, and a busy machine needs seconds for that. Until then the system tells us
by a signal that something has happened to stdin; later the relay ignores that signal, as all that a cell may send.
"""

import fcntl
import os
import select
import signal


def end_without_host(*_: object) -> None:
    """The other end of stdin is closed, whatever has been written before."""
    poll = select.poll()
    poll.register(0, 0)
    if any(events & select.POLLHUP for _, events in poll.poll(0)):
        os._exit(0)


signal.signal(signal.SIGIO, end_without_host)
fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
end_without_host()  # it may have gone before we asked to be told
