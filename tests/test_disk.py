"""The file under HDF5 reads back what was written, also when the disk took only a part of it."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labctl import disk as disk_module
from labctl.disk import DiskFile, replace
from labctl.errors import StorageError


def test_a_file_that_somebody_has_open_is_replaced_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Windows does, played by os.replace: refuse while a reader has the target open."""
    monkeypatch.setattr(disk_module, "OPEN_FILES_STAY", True)
    source, target = tmp_path / "x.h5.part", tmp_path / "x.h5"
    real, looks = os.replace, [1, 2]

    def refuse(source: Path, target: Path) -> None:
        if looks:
            looks.pop()
            raise PermissionError(13, "Access is denied")
        real(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    source.write_text("new")
    target.write_text("old")
    replace(source, target)
    assert (target.read_text(), source.exists()) == ("new", False)
    source.write_text("newer")
    looks.append(1)
    monkeypatch.setattr(disk_module, "PATIENCE", -1.0)
    with pytest.raises(StorageError, match=r"x\.h5 is open in another program.*all of it is in x\.h5\.part"):
        replace(source, target)
    assert (target.read_text(), source.read_text()) == ("new", "newer")
    looks.append(1)
    monkeypatch.setattr(disk_module, "OPEN_FILES_STAY", False)  # elsewhere it means that one may not write there
    with pytest.raises(PermissionError):
        replace(source, target)


operations = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 300), st.binary(max_size=100)),
        st.tuples(st.just("read"), st.integers(0, 400), st.integers(0, 100)),
        st.tuples(st.just("truncate"), st.integers(0, 400), st.just(b"")),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations, st.integers(0, 25), st.integers(0, 60))
def test_it_is_a_file_whatever_the_disk_does(
    tmp_path: Path, steps: list[tuple[str, int, bytes | int]], fails_at: int, taken: int
) -> None:
    """Against a model in memory. From one write on the disk is full: it takes `taken` bytes of that one."""
    path = tmp_path / "file"
    path.unlink(missing_ok=True)
    disk = DiskFile(path)
    model = bytearray()
    real = os.write
    left: list[int] = []

    def full(fd: int, data: memoryview) -> int:
        if not left or not left[0]:
            raise OSError(28, "No space left on device")
        count = real(fd, data[: left[0]])
        left[0] -= count
        return count

    def never(fd: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        for number, (what, at, value) in enumerate(steps):
            if number == fails_at:
                left.append(taken)
                patch.setattr(os, "write", full)
                patch.setattr(os, "ftruncate", never)
            if what == "truncate":
                if at < len(model):
                    continue  # HDF5 makes its files shorter only when it closes them
                disk.truncate(at)
                model += bytes(at - len(model))
            elif what == "write":
                assert isinstance(value, bytes)
                disk.seek(at)
                assert disk.write(memoryview(value)) == len(value)
                if value:
                    model += bytes(max(0, at + len(value) - len(model)))
                    model[at : at + len(value)] = value
            else:
                assert isinstance(value, int)
                buffer = bytearray(b"?" * value)
                disk.seek(at)
                assert disk.readinto(memoryview(buffer)) == value
                assert buffer == (bytes(model[at : at + value]) + bytes(value))[:value]
    if disk.failure is None:
        disk.sync()
        assert path.read_bytes() == bytes(model)
    else:
        assert number >= fails_at
        with pytest.raises(OSError, match="No space left"):
            disk.sync()
    disk.close()


def test_what_exists_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        DiskFile(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"mine"
