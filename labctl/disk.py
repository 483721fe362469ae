"""A file under HDF5 that never fails in its face.

HDF5 cannot close a file whose disk is full: handles stay, and the interpreter crashes at its end. So the library writes
through a `DiskFile`, which keeps the first failure for its owner to raise and lets HDF5 believe in success. What is
written after that stays in memory until the file is closed, and is gone then.
"""

import contextlib
import io
import os
import time
from pathlib import Path

from labctl.errors import StorageError

LOCK_AT = 1 << 40  # where Windows locks a byte: far beyond the end, because locks are mandatory there


OPEN_FILES_STAY = os.name == "nt"  # whether a file that somebody has open cannot be replaced
PATIENCE = 10.0  # s in which a reader may finish


class DiskFile(io.RawIOBase):
    """A new file, opened for h5py's file-object driver. failure: what the disk said first, or None."""

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        self._fd = os.open(path, flags, 0o666)
        self.failure: OSError | None = None
        self._position = 0
        self.size = 0
        self._unwritten: list[tuple[int, bytes]] = []

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As the library asks; relative to the size that it believes in."""
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        return self._position

    def tell(self) -> int:
        """Where the next byte goes."""
        return self._position

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        """All of `data`, or the reason why not in `failure`."""
        start, rest = self._position, memoryview(data).cast("B")
        size = len(rest)
        self._position += size
        self.size = max(self.size, self._position)
        if self.failure is None:
            try:
                os.lseek(self._fd, start, os.SEEK_SET)
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
            except OSError as error:
                self.failure = error
        if rest:
            self._unwritten.append((self._position - len(rest), bytes(rest)))
        return size

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """What was written there; zeros where nothing was."""
        start, view = self._position, memoryview(buffer).cast("B")
        os.lseek(self._fd, start, os.SEEK_SET)
        done = 0
        while done < len(view) and (piece := os.read(self._fd, len(view) - done)):
            view[done : done + len(piece)] = piece
            done += len(piece)
        view[done:] = bytes(len(view) - done)
        for at, data in self._unwritten:
            first, last = max(at, start), min(at + len(data), start + len(view))
            if first < last:
                view[first - start : last - start] = data[first - at : last - at]
        self._position += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the length; a file may only grow here where the disk has room."""
        self.size = self._position if size is None else size
        if self.failure is None:
            try:
                os.ftruncate(self._fd, self.size)
            except OSError as error:
                self.failure = error
        return self.size

    def sync_data(self) -> None:
        """Return when the bytes so far are on the disk; raises `OSError`. For any thread."""
        getattr(os, "fdatasync", os.fsync)(self._fd)

    def sync(self) -> None:
        """Return when everything is on the disk; raises `OSError`, also for what failed before."""
        if self.failure is None:
            try:
                os.fsync(self._fd)
            except OSError as error:
                self.failure = error
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        """Close; never raises (`sync` first)."""
        if not self.closed:
            os.close(self._fd)
            self._unwritten.clear()
        super().close()

    def readable(self) -> bool:
        """Yes."""
        return True

    def writable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True


def replace(source: Path, target: Path) -> None:
    """Put `source` in the place of `target`, in one step.

    Windows refuses as long as another program has `target` open; a look is over soon, so it is tried for a while.
    Raises `StorageError` after that, `OSError` for all else.
    """
    until = time.monotonic() + PATIENCE
    while True:
        try:
            os.replace(source, target)
            return
        except PermissionError as error:
            if not OPEN_FILES_STAY:
                raise
            if time.monotonic() > until:
                raise StorageError(
                    f"{target} is open in another program, and Windows lets nobody replace it meanwhile; nothing is"
                    f" lost, all of it is in {source.name}: close that program"
                ) from error
            time.sleep(0.1)


def sync_folder(folder: Path) -> None:
    """Make new names in `folder` durable, where the system can."""
    if os.name == "posix":
        with contextlib.suppress(OSError):
            fd = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def hold_lock(fd: int) -> None:
    """Mark the open journal as being written, until it is closed or its process ends; where the file system can."""
    try:
        import fcntl

        fcntl.flock(fd, fcntl.LOCK_EX)
    except ImportError:
        import msvcrt

        os.lseek(fd, LOCK_AT, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError:
        return  # a file system without locks: a run that goes on looks interrupted


def is_being_written(path: Path) -> bool:
    """Whether a living process has that journal open for writing."""
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        import fcntl

        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except ImportError:
        import msvcrt

        try:
            os.lseek(fd, LOCK_AT, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return True
    except OSError as error:
        import errno

        return error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN)
    finally:
        os.close(fd)
    return False
