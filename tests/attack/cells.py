"""The code that each box of an attack runs first: a way to try something in a forked child and say one word of it."""

from __future__ import annotations

from typing import Final

PRELUDE: Final = r"""
import ctypes, errno, os, shutil, signal, socket, struct

libc = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWUSER, NEWNET = 0x20000, 0x10000000, 0x40000000

def c(name, *args):
    "A function of the C library that says -1 and an errno."
    ctypes.set_errno(0)
    given = [ctypes.c_ulong(arg & (1 << 64) - 1) if isinstance(arg, int) else arg for arg in args]
    got = getattr(libc, name)(*given)
    if got == -1:
        raise OSError(ctypes.get_errno(), name)
    return got

def opened(path, flags):
    os.close(os.open(path, flags))

def ran(path, *args):
    "What a program prints."
    ours, theirs = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.dup2(theirs, 1); os.execv(path, [path, *args])
        except OSError as error:
            os.write(theirs, errno.errorcode[error.errno].encode())
        os._exit(0)
    os.close(theirs)
    said = os.read(ours, 1000).decode().strip(); os.waitpid(child, 0)
    return said

def attempt(code):
    "Run it in a child; what it assigns to `word`, else worked or the name of its errno."
    ours, theirs = os.pipe()
    if (child := os.fork()) == 0:
        scope = dict(globals())
        try:
            exec(code, scope); said = str(scope.get("word", "worked"))
        except OSError as error: said = errno.errorcode.get(error.errno, type(error).__name__)
        except BaseException as error: said = type(error).__name__
        os.write(theirs, said.encode()); os.kill(os.getpid(), signal.SIGKILL)
    os.close(theirs)
    said = os.read(ours, 1000).decode(); os.close(ours)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return said or signal.Signals(-status).name
"""


def tried(code: str) -> str:
    """A cell that runs `code` in a child and prints one word of it."""
    return f"print(attempt({code!r}))"
