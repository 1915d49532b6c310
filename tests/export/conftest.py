"""What runs exports in a browser, fetched once."""

import pytest

from sagan.export.runtime import runtime_files
from sagan.system.errors import UserError


@pytest.fixture(scope="session")
def browser_runtime():
    """The files of ONNX Runtime Web by name; none where npm cannot fetch them."""
    try:
        return runtime_files(None)
    except UserError:
        return {}
