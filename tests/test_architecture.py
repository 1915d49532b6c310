"""What ARCHITECTURE.md says can be checked: the import rule, the tree, and every file and name in a file.

The import rule: modules import downwards only, and never a neighbour on their own row.
"""

import ast
import re
from pathlib import Path

import pytest

import sagan

PACKAGE = Path(sagan.__file__).parent
PROJECT = Path(__file__).parents[1]
TEXT = (PROJECT / "ARCHITECTURE.md").read_text("utf-8")


def block_of(heading: str) -> list[str]:
    """The lines of the first code block under a heading of ARCHITECTURE.md."""
    return TEXT.split(f"## {heading}\n", 1)[1].split("```\n", 2)[1].splitlines()


ROWS = [line.split(" · ") for line in block_of("Which may import which")]  # from the top of the house down


def home_of(module: str) -> tuple[int, str] | None:
    """The row and the part a dotted module (without the leading ``sagan.``) belongs to: its longest listed prefix."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        part = ".".join(parts[:length])
        for row, members in enumerate(ROWS):
            if part in members:
                return row, part
    return None


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        dotted = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        name = dotted.removesuffix(".__init__")
        if name not in {"__init__", "__main__"} and path.read_text().strip():
            found[name] = path
    return found


def imported_modules(path: Path, names: set[str]) -> set[str]:
    """Every ``sagan`` module that the file imports anywhere, inside functions too."""
    imports = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imports |= {alias.name.removeprefix("sagan.") for alias in node.names if alias.name.startswith("sagan.")}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "sagan":
            base = node.module.removeprefix("sagan").removeprefix(".")
            for alias in node.names:
                full = f"{base}.{alias.name}".removeprefix(".")
                imports.add(full if full in names else base)
    return imports - {""}


@pytest.mark.parametrize("module", sorted(modules()))
def test_every_module_has_a_place_in_the_house(module):
    assert home_of(module) is not None, f"sagan.{module} is on no row of ARCHITECTURE.md"


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_go_downwards_only(module):
    names = modules()
    row, part = home_of(module)
    for imported in imported_modules(names[module], set(names)):
        target_row, target = home_of(imported)
        assert target == part or target_row > row, (
            f"sagan.{module} (row {row}) imports sagan.{imported} (row {target_row})"
        )


def test_the_library_uses_absolute_imports():
    for name, path in modules().items():
        relative = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom) and n.level]
        assert not relative, f"sagan.{name} has relative imports, which the import rule does not see"


# ---- the tree, and what is named elsewhere


def tree() -> dict[str, set[str]]:
    """The names of the files that the tree lists in each folder of the package."""
    found: dict[str, set[str]] = {}
    for line in block_of("The tree"):
        start = re.match(r"(src/sagan/|  [a-z_/]+/|\S+) ", line)
        if start:
            folder = start[1].strip()
            names = found.setdefault("" if folder == "src/sagan/" else folder.rstrip("/"), set())
        names |= set(re.findall(r"\b\w+\.py\b", line))
    return {folder: names for folder, names in found.items() if not folder or (PACKAGE / folder).is_dir()}


def test_the_tree_lists_every_file_of_the_package():
    files = [path for path in PACKAGE.rglob("*") if path.suffix == ".py"]
    inside = {path.parent.relative_to(PACKAGE) for path in files} - {Path()}
    present = {str(folder): {path.name for path in files if path.parent == PACKAGE / folder} for folder in inside}
    present = {folder: names - {"__init__.py"} for folder, names in present.items()}
    present[""] = {path.name for path in files if path.parent == PACKAGE}
    assert tree() == {folder: names for folder, names in present.items() if names}


NAMED = sorted(set(re.findall(r"`([\w./-]+\.(?:py|md|toml|html|js|sh))(?::(\w+))?`", TEXT)))


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[":".join(filter(None, each)) for each in NAMED])
def test_what_is_named_exists(path, name):
    """A file of the project or of the package, by the end of its path; after a colon, something in it."""
    places = [PROJECT / folder for folder in ("src", "tests", "docs", "benchmarks")]
    found = [file for place in places for file in place.rglob(Path(path).name) if file.match(path)]
    found += [PROJECT / path] if (PROJECT / path).is_file() else []
    assert found, f"there is no {path}"
    assert any(re.search(rf"\b{name}\b", file.read_text("utf-8")) for file in found), f"there is no {name} in {path}"


def test_the_reading_order_says_about_how_long_each_file_is():
    rows = re.findall(r"^\| `(\S+\.py)` \| (\d+) \|", TEXT, re.MULTILINE)
    assert len(rows) > 5
    for file, lines in rows:
        assert len((PACKAGE / "core" / file).read_text().splitlines()) == pytest.approx(int(lines), rel=0.1), file
