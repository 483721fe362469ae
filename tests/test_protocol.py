"""The declaration of a protocol: its signature is what everything else is made from."""

from collections.abc import Iterator, Sequence
from typing import Annotated as A
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest

from labctl.errors import ParameterError, UsageError
from labctl.protocol import Protocol, Rows, Trace, discover, find, protocol
from labctl.quantity import Q
from protocols.document import document


class MapPoint(NamedTuple):
    v: A[float, Q("V", meaning="voltage")]
    n: A[int, Q("", meaning="count")]


class Side(NamedTuple):
    name: A[str, Q("", meaning="a word")]


ran: list[dict[str, Any]] = []


@protocol(total=lambda v, **_: len(v))
def example(
    bench: object,
    v: A[Sequence[float], Q("V", -1, 2, "voltages")] = (0.0, 1.0),
    n: A[int, Q("", 1, 9, "repeats")] = 3,
    mode: A[Literal["fast", "slow"], Q("", meaning="how")] = "fast",
    average: A[bool, Q("", meaning="average")] = False,
) -> Iterator[MapPoint | Side | Rows | Trace]:
    """One line.

    More lines.
    """
    ran.append({"v": v, "n": n, "mode": mode, "average": average})
    yield MapPoint(1.0, 2)


def test_parameters_and_tables_come_from_the_signature() -> None:
    assert list(example.parameters) == ["v", "n", "mode", "average"]
    v = example.parameters["v"]
    assert (v.kind, v.many, v.q.unit, v.default) == (float, True, "V", (0.0, 1.0))
    assert example.parameters["mode"].choices == ("fast", "slow")
    assert [(table.name, [c.name for c in table.columns]) for table in example.tables] == [
        ("map_point", ["v", "n"]),
        ("side", ["name"]),
    ]
    assert example.expected_rows(example.check({"v": [0, 1, 2]})) == 3


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"v": [3.0]}, "example: v = 3 V is above the limit of 2 V"),
        ({"v": []}, "not a list"),
        ({"v": 1.0}, "not a list"),
        ({"v": [float("nan")]}, "not a finite number"),
        ({"n": 2.5}, "not of type int"),
        ({"n": True}, "not of type int"),
        ({"n": 10}, "above the limit of 9"),
        ({"mode": "medium"}, "none of fast, slow"),
        ({"average": 1}, "not of type bool"),
        ({"avarage": True}, "has no parameter 'avarage'; did you mean average?"),
    ],
)
def test_bad_parameters_are_refused_before_anything_runs(bad: dict[str, object], message: str) -> None:
    ran.clear()
    with pytest.raises(ParameterError, match=message.replace("?", r"\?")):
        example(object(), **bad)
    assert ran == []


def test_a_good_call_fills_in_the_defaults() -> None:
    ran.clear()
    rows = list(example(object(), v=np.array([1, 2]), n=np.int64(4)))
    assert rows == [MapPoint(1.0, 2)]
    assert ran == [{"v": (1.0, 2.0), "n": 4, "mode": "fast", "average": False}]
    assert type(ran[0]["n"]) is int


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("v", "0:1:500m", (0.0, 0.5, 1.0)),
        ("v", "100mV,1", (0.1, 1.0)),
        ("n", "4", 4),
        ("mode", "slow", "slow"),
        ("average", "yes", True),
    ],
)
def test_text_from_a_command_line(name: str, text: str, value: object) -> None:
    assert example.parameters[name].parse(text) == value


@pytest.mark.parametrize(("name", "text"), [("n", "2.5"), ("n", "12"), ("average", "maybe"), ("v", "a"), ("mode", "")])
def test_bad_text_is_refused(name: str, text: str) -> None:
    with pytest.raises(ParameterError):
        example.parameters[name].parse(text)


def test_blocks_must_have_the_declared_columns() -> None:
    block = Rows(MapPoint, v=np.arange(3.0), n=1)
    assert len(block) == 3
    assert block.columns["n"].tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="has the columns v, n"):
        Rows(MapPoint, v=np.arange(3.0))
    with pytest.raises(ValueError, match="one dimension"):
        Rows(MapPoint, v=1.0, n=1)


def test_a_parameter_without_default_or_quantity_is_a_mistake_of_the_author() -> None:
    def no_default(bench: object, v: A[float, Q("V")]) -> Iterator[MapPoint]:
        yield MapPoint(v, 0)

    def no_quantity(bench: object, v: float = 1.0) -> Iterator[MapPoint]:
        yield MapPoint(v, 0)

    for function in (no_default, no_quantity):
        with pytest.raises(TypeError):
            _ = Protocol(function).parameters


def test_protocols_are_found_by_name() -> None:
    assert find("lif_fi_curve").name == "lif_fi_curve"
    with pytest.raises(UsageError, match="there is no protocol 'nonsense'"):
        find("nonsense")


def test_every_protocol_follows_the_conventions() -> None:
    """Documented, with units and meanings, in the file of its name."""
    for name, found in discover().items():
        assert found.__module__.rpartition(".")[2] == name or name.startswith(found.__module__.rpartition(".")[2])
        assert len(found.doc.splitlines()[0]) <= 112, f"{name}: the first line does not fit a docstring's line"
        assert found.doc.splitlines()[0].endswith("."), name
        assert found.plot is not None, f"{name} draws nothing"
        for parameter in found.parameters.values():
            assert parameter.q.meaning, f"{name}: {parameter.name} has no meaning"
        for table in found.tables:
            for column in table.columns:
                assert column.q.meaning, f"{name}: column {column.name} has no meaning"


def test_the_reference_says_what_is_declared(pytestconfig: pytest.Config) -> None:
    page = pytestconfig.rootpath / "docs" / "protocols.md"
    assert page.read_text(encoding="utf-8") == document(), "python -m protocols.document > docs/protocols.md"
