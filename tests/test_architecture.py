"""The import rule of ARCHITECTURE.md: modules import downwards only, and never a neighbour on their own row."""

import ast
from pathlib import Path

import pytest

import sagan

PACKAGE = Path(sagan.__file__).parent

ROWS = [  # from the top of the house down
    ["published.command"],
    ["cli"],
    ["api", "attention"],
    ["gallery", "experiments", "bench", "doctor", "published.imports"],
    ["training", "evaluation", "viewing", "export", "published.tables"],
    ["data", "published.keys"],
    ["run"],
    ["core", "evaluation.metrics", "evaluation.extractors"],
    ["system"],
]


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
