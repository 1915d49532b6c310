"""Shows files of the repository's root as the pages in project/, and leads links to these files there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGES = {
    "ARCHITECTURE.md": "project/architecture",
    "CHANGELOG.md": "project/changes",
    "CONTRIBUTING.md": "project/contributing",
    "SECURITY.md": "project/security",
    "UPGRADING.md": "project/upgrading",
}


def read_page(app: Any, name: str, source: list[str]) -> None:
    for file, page in PAGES.items():
        if page == name:
            app.env.note_dependency(ROOT / file)
            source[0] = (ROOT / file).read_text(encoding="utf-8").replace("](docs/", "](/")
    for file, page in PAGES.items():
        source[0] = re.sub(rf"\]\((\.\./)*{re.escape(file)}", f"](/{page}.md", source[0])


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", read_page)
    return {"parallel_read_safe": True}
