"""A context file as one str."""

import ctypes
import mmap
import os
from typing import Any

from lazy_file import mapped

DIRECT_BYTES = 1 << 20  # a smaller one is read before any of this could help
READ_BYTES = 1 << 30  # the system reads less than 2 GiB at once
HUGE_BYTES = 64 << 20  # of a str in huge pages: a virtual machine may have lent its free ones to others, and waits then


def read_text(path: str, is_ascii: bool) -> str:
    """A file of UTF-8, lone surrogates kept. Whoever says that it is ASCII must know it: nobody looks again.

    Raises:
        OSError: It can't be read.
    """
    if is_ascii and os.stat(path).st_size >= DIRECT_BYTES:
        return read_ascii(path)
    return str(mapped(path), "utf-8", "surrogatepass")  # not read first: that would be one more copy


def read_ascii(path: str) -> str:
    """Read into the new str itself: mapping a file's pages, and small pages for a str, cost more than the copy."""
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        text, address = new_ascii(size)
        if size <= HUGE_BYTES:
            ask_for_huge_pages(address, size)
        left: Any = memoryview((ctypes.c_char * size).from_address(address)).cast("B")
        while left:
            count = file.readinto(left[:READ_BYTES])
            if not count:
                raise OSError("the context ends before its end")
            left = left[count:]
    return text


def new_ascii(size: int) -> tuple[str, int]:
    """A str whose characters are still to be written, at the address that is returned, before anybody sees it."""
    new = ctypes.pythonapi.PyUnicode_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_ssize_t, ctypes.c_uint32]
    address_of = ctypes.pythonapi.PyUnicode_AsUTF8
    address_of.restype, address_of.argtypes = ctypes.c_void_p, [ctypes.py_object]
    text: str = new(size, 0x7F)
    return text, address_of(text)


def ask_for_huge_pages(address: int, size: int) -> None:
    """For the whole pages of this memory. A system that has none says no, and they are small."""
    start = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (address + size) // mmap.PAGESIZE * mmap.PAGESIZE
    ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_HUGEPAGE)
