"""A few numbers in memory that two processes share. Shell."""

import mmap
import os

_SIZE = 4_096


class SharedCounters:
    """512 unsigned numbers of 64 bits, all zero at first.

    Each is written by one process and read by any.
    """

    def __init__(self, fd: int) -> None:
        """fd: what `new()` has made, in this process or another one."""
        self._numbers = memoryview(mmap.mmap(fd, _SIZE)).cast("Q")

    @staticmethod
    def new() -> int:
        """Make the memory. Returns: a file descriptor, for the caller to close."""
        fd = os.memfd_create("board")
        os.truncate(fd, _SIZE)
        return fd

    def __getitem__(self, index: int) -> int:
        return self._numbers[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._numbers[index] = value
