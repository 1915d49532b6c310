"""A trained run, as the tests of commands have it."""

from tests.cli.conftest import home, run, trained  # noqa: F401
