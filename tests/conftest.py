"""Options of the tests."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bench", help="station file of a real bench: the contract tests run on its instruments too")
