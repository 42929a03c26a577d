"""One writer at a time: a lock on a folder that the kernel lets go when its holder dies."""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deconf.errors import SettingsError

logger = logging.getLogger(__name__)
LOCK = ".writing"
FAR = 1 << 30  # Windows locks bytes, and locked ones cannot be read: lock one that is not there


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; what a killed run left of its own is taken over.

    The lock is the kernel's, not the existence of a file with a process number: the number says
    nothing in another container or on another host, where a killed job is often resumed.

    Raises
    ------
    SettingsError
        Another process writes here.

    Warns
    -----
    UserWarning
        The file system keeps no locks.
    """
    path = folder / LOCK
    handle = _taken(path)
    try:
        before = _holder(handle)
        if before:
            logger.warning(
                "%s was ended while writing %r: its work is taken over.", before, str(folder)
            )
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        # Removed while still held; whoever waits on the old file sees that it is no longer there.
        with suppress(OSError):
            path.unlink()
        os.close(handle)


def _taken(path: Path) -> int:
    """Return a handle on the locked file."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(handle)
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle
        except FileNotFoundError:
            pass  # the last holder removed it between opening and locking
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                holder = _holder(handle) or "another process"
                os.close(handle)
                raise SettingsError(
                    f"{holder} is writing to {path.parent.name!r}, and a store has one writer. "
                    "Wait for it, end it, or embed into another folder."
                ) from error
            warnings.warn(
                f"the file system of {str(path.parent)!r} keeps no locks ({error.strerror}): see "
                "to it that no other run writes there.",
                stacklevel=5,
            )
            return handle
        os.close(handle)


def _holder(handle: int) -> str:
    os.lseek(handle, 0, os.SEEK_SET)
    return os.read(handle, 200).decode(errors="replace")


def _lock(handle: int) -> None:
    """Lock a file, or raise OSError at once."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(handle, FAR, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
