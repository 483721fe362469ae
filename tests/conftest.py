"""Options of the tests."""

import pytest
from hypothesis import settings

settings.register_profile("labctl", deadline=None)  # no test asserts a time, hypothesis neither
settings.load_profile("labctl")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bench", help="station file of a real bench: the contract tests run on its instruments too")
