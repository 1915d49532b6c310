import subprocess
import sys

import sagan


def test_every_public_name_is_there():
    for name in sagan.__all__:
        assert getattr(sagan, name) is not None
    assert dir(sagan) == sagan.__all__


def test_import_is_free():
    """No torch, no work: the command's help must not wait for them."""
    code = "import sys, sagan, sagan.cli; print([m for m in ('torch', 'matplotlib', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
