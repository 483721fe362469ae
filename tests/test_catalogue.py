"""The catalogue: what is listed, what the cache may and may not do."""

import os
from pathlib import Path
from typing import Annotated as A
from typing import Any, NamedTuple

import pytest

from labctl import catalogue as module
from labctl.catalogue import Entry, catalogue
from labctl.errors import StorageError, UsageError
from labctl.journal import Journal
from labctl.protocol import Table
from labctl.quantity import Q
from labctl.store import Store


class Point(NamedTuple):
    """A point."""

    v: A[float, Q("V", meaning="voltage")]


def make(path: Path, status: str = "done", rows: int = 2, **header: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    station = {"name": "bench1", "text": '[chip]\nname = "UNICO 7"'}
    known = {"protocol": "iv_sweep", "params": {"row": 3, "column": 1}, "station": station}
    store = Store(path, known | {"created": "2026-03-01T12:00:00+01:00"} | header, [Table(Point)])
    for k in range(rows):
        store.row(0, (float(k),), float(k))
    store.finish(status, {}, None)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    make(folder / "b.h5", comment="second", created="2026-03-02T00:00:00+01:00", tags=["good", "x"])
    make(
        folder / "deep" / "er" / "a.h5",
        status="aborted",
        protocol="lif_fi_curve",
        params={"neuron": [1, 2]},
        tags=["x"],
    )
    make(folder / ".hidden" / "c.h5")
    (folder / "notes.txt").write_text("no run")
    return folder


def test_what_is_listed(tree: Path, tmp_path: Path) -> None:
    first, second = catalogue(tree, cache=tmp_path / "cache")
    assert first == Entry(
        "deep/er/a.h5", "aborted", "lif_fi_curve", "UNICO 7", "bench1", "neuron 1 2", "2026-03-01T12:00:00+01:00", "",
        ("x",), 2, (tree / "deep/er/a.h5").stat().st_size,
    )  # fmt: skip
    assert (second.path, second.cells, second.comment) == ("b.h5", "row 3, column 1", "second")


def test_filters(tree: Path, tmp_path: Path) -> None:
    def names(**filters: Any) -> list[str]:
        return [entry.path for entry in catalogue(tree, cache=tmp_path / "cache", **filters)]

    assert names(protocol="lif_*") == ["deep/er/a.h5"]
    assert names(chip="unico*") == ["deep/er/a.h5", "b.h5"]
    assert names(chip="other") == []
    assert names(status="done") == ["b.h5"]
    assert names(tags=["x"]) == ["deep/er/a.h5", "b.h5"]
    assert names(tags=["x", "good"]) == ["b.h5"]
    assert names(since="2026-03-01T22:59:59+00:00") == ["b.h5"]
    assert names(since="2026-03-01T23:00:01+00:00") == []
    with pytest.raises(UsageError, match="'yesterday' is no date"):
        names(since="yesterday")
    with pytest.raises(StorageError, match="is no folder"):
        catalogue(tree / "none")


def test_only_what_changed_is_read_again(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    look = module._look

    def watched(root: Path, path: str, size: int) -> Entry:
        looked.append(path)
        return look(root, path, size)

    monkeypatch.setattr(module, "_look", watched)
    cache = tmp_path / "cache"
    before = catalogue(tree, cache=cache)
    assert sorted(looked) == ["b.h5", "deep/er/a.h5"]
    looked.clear()
    assert catalogue(tree, cache=cache) == before
    assert looked == []
    (tree / "b.h5").unlink()
    make(tree / "b.h5", rows=5)
    make(tree / "new.h5")
    assert {entry.path: entry.rows for entry in catalogue(tree, cache=cache)} == {
        "deep/er/a.h5": 2, "b.h5": 5, "new.h5": 2,
    }  # fmt: skip
    assert sorted(looked) == ["b.h5", "new.h5"]
    looked.clear()
    (tree / "new.h5").unlink()
    assert "new.h5" not in {entry.path for entry in catalogue(tree, cache=cache)}
    os.utime(tree / "b.h5", ns=(1, 1))
    catalogue(tree, cache=cache)
    assert looked == ["b.h5"]


@pytest.mark.parametrize("damage", ["deleted", "empty", "torn", "no json", "other version", "wrong fields", "a list"])
def test_a_damaged_index_is_made_again(tree: Path, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "cache"
    before = catalogue(tree, cache=cache)
    (index,) = cache.iterdir()
    text = index.read_text()
    changed = {
        "empty": "", "torn": text[: len(text) // 2], "no json": "\0\0", "other version": text.replace("1", "2", 1),
        "wrong fields": text.replace('"status"', '"state"', 1), "a list": "[]",
    }  # fmt: skip
    index.unlink()
    if damage != "deleted":
        index.write_text(changed[damage])
    assert catalogue(tree, cache=cache) == before
    assert index.read_text() == text


def test_without_a_place_for_the_cache_it_still_works(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert len(catalogue(tree, cache=tmp_path / "file" / "cache")) == 2


def test_the_cache_is_not_beside_the_data(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *a, **k: tmp_path / "users")
    before = sorted(tree.rglob("*"))
    catalogue(tree)
    assert sorted(tree.rglob("*")) == before
    assert len(list((tmp_path / "users" / "catalogue").iterdir())) == 1


def test_running_interrupted_recovered_and_unreadable(tmp_path: Path) -> None:
    folder, cache = tmp_path / "data", tmp_path / "cache"
    make(folder / "done.h5")
    (folder / "text.h5").write_text("no HDF5")
    journal = Journal(folder / "now.h5.journal", {"protocol": "iv_sweep", "params": {}, "tags": ["t"]}, [Table(Point)])
    journal.row(0, (1.0,))

    def statuses() -> dict[str, str]:
        return {entry.path: entry.status for entry in catalogue(folder, cache=cache)}

    assert statuses() == {"done.h5": "done", "now.h5": "running", "text.h5": "unreadable"}
    journal.close()
    # the same bytes, but nobody writes them any more
    assert statuses()["now.h5"] == "interrupted"
    (unreadable,) = catalogue(folder, status="unreadable", cache=cache)
    assert "cannot be opened as HDF5" in unreadable.problem
    from labctl.recover import recover

    recover(folder / "now.h5")
    assert statuses()["now.h5"] == "recovered"
    # cut off between finishing the file and removing its journal: the file is whole
    Journal(folder / "done.h5.journal", {"protocol": "iv_sweep", "params": {}}, [Table(Point)]).close()
    assert statuses()["done.h5"] == "done"
