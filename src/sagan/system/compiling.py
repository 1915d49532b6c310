"""Where torch.compile keeps the programs that it makes and runs again later."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from sagan.system.errors import UserError
from sagan.system.files import own_cache

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def compile_into_own_cache() -> None:
    """Keeps compiled programs in a folder that nobody else can write to, as they are run. By default torch takes a
    folder of a known name in the shared /tmp, which another user may have made first. The environment variable of
    torch's own wins."""
    if not os.environ.get(VARIABLE):
        os.environ[VARIABLE] = str(_private_folder())


def _private_folder() -> Path:
    """A folder in the cache or, where that is not this user's alone or there is none, a new one for this process."""
    try:
        folder = own_cache() / "compiled"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if is_private(folder):
            return folder
    except (OSError, UserError):
        pass
    return Path(tempfile.mkdtemp(prefix="sagan-compiled-"))


def is_private(folder: Path) -> bool:
    """Whether a folder is this user's, and no other user can write to it."""
    found = folder.stat()
    if os.name != "posix":  # where a user's folders are private by default
        return True
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
