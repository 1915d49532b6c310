"""Writes the pages on the commands and the settings from the dataclasses that the command line reads.

They are written before each build into reference/commands/ and reference/settings.md, which git ignores.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from tyro.conf import Positional

from sagan.cli import COMMANDS
from sagan.cli.flags import field_texts
from sagan.cli.help import metavar
from sagan.run.config import Config, roles
from sagan.run.plan import spell as words_of
from sagan.run.presets import PRESETS

_EFFECTS = {
    "computed": "Fixed for the whole run: it decides what is computed.",
    "kept": "Fixed for the whole run, without an effect on the weights.",
    "free": "May change when the run is resumed.",
    "place": "Where something is on this machine.",
}


def write_pages(folder: Path) -> None:
    """Writes a page for each command and one for all settings into the folder `reference` of the documentation."""
    commands = folder / "commands"
    commands.mkdir(parents=True, exist_ok=True)
    for old in commands.glob("*.md"):
        if old.stem not in COMMANDS:
            old.unlink()
    for name in COMMANDS:
        _write(commands / f"{name}.md", "\n".join(_command(name)))
    _write(folder / "settings.md", "\n".join(_settings()))


def _write(path: Path, text: str) -> None:
    """Leaves a file of the same text as it is, so that Sphinx need not read it again."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _command(name: str) -> Iterator[str]:
    command = COMMANDS[name]
    shown = command.shown([])
    kind = shown if isinstance(shown, type) else type(shown)
    takes = list(_flags(shown))
    places = [each.title for each in takes if each.positional]
    yield f"# sagan {name}\n"
    yield f"{_escaped((command.run.__doc__ or '').splitlines()[0])}\n"
    yield "```sh\n" + " ".join(["sagan", name, *places, "[--FLAG VALUE ...]"]) + "\n```\n"
    yield _docstring(kind)
    yield f"```{{program}} sagan {name}\n```\n"
    for each in takes:
        yield from each.lines()
    if any(field.type == "Config" for field in dataclasses.fields(kind)):
        yield "It also takes every setting of a run as a flag: see [settings](../settings.md).\n"


def _settings() -> Iterator[str]:
    yield "# Settings\n"
    yield (
        "Every setting of a run is a flag of [sagan train](commands/train.md) and [sagan sweep](commands/sweep.md), a "
        "keyword of `sagan.train` and a field of `sagan.Config`. The default is the one of `sagan.Config()`; a preset "
        "may have another, and `sagan train` starts from the preset `best`.\n"
    )
    yield "```{program} setting\n```\n"
    for section in dataclasses.fields(Config):
        default = getattr(Config(), section.name)
        yield f"## {section.name}\n\n{_escaped(type(default).__doc__ or '')}\n"
        for each in _flags(default):
            values = {name: getattr(getattr(preset, section.name), each.name) for name, preset in PRESETS.items()}
            others = [f"{name} `{_spelt(value)}`" for name, value in values.items() if value != each.default]
            more = [f"Presets: {', '.join(others)}."] if others else []
            yield from each.lines([*more, _EFFECTS[roles()[each.name].effect]])


@dataclasses.dataclass
class _Flag:
    name: str
    value: str
    text: str
    default: Any
    required: bool
    positional: bool

    @property
    def title(self) -> str:
        return self.name.upper() if self.positional else f"--{self.name} {self.value}"

    def lines(self, more: list[str] | None = None) -> Iterator[str]:
        """The flag as Sphinx's directive `option`, which makes an anchor and an entry of the index."""
        end = "Required." if self.required else f"Default: `{_spelt(self.default)}`."
        yield f"````{{option}} {self.title}\n"
        yield _escaped(self.text) + "\n"
        yield " ".join([end, *(more or [])])
        yield "````\n"


def _flags(shown: Any) -> Iterator[_Flag]:
    """The fields of a dataclass, or of an instance whose values are the defaults, but not those of settings inside."""
    kind = shown if isinstance(shown, type) else type(shown)
    hints, texts = get_type_hints(kind, include_extras=True), field_texts(kind)
    for field in dataclasses.fields(kind):
        hint, notes = hints[field.name], []
        if get_origin(hint) is Annotated:
            hint, *notes = get_args(hint)
        if dataclasses.is_dataclass(hint):
            continue
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if not isinstance(shown, type):
            default = getattr(shown, field.name)
        required, text = default is dataclasses.MISSING, texts.get(field.name, "")
        yield _Flag(field.name, metavar(hint), text, None if required else default, required, Positional in notes)


def _spelt(value: Any) -> str:
    return "unset" if value is None else " ".join(words_of(value)) or '""'


def _docstring(kind: type) -> str:
    """A docstring in which indented lines are commands."""
    lines = [line.rstrip() for line in (kind.__doc__ or "").splitlines()]
    text, shell = [], False
    for line in lines:
        example = re.match(r"\s+sagan ", line) is not None
        if example != shell:
            text.append("\n```sh" if example else "```\n")
        shell = example
        text.append(line.strip() if example else _escaped(line.strip()))
    return "\n".join([*text, "```"] if shell else text) + "\n"


def _escaped(text: str) -> str:
    """Text in which only what stands in backticks is Markdown; its line breaks stay."""
    parts = re.split(r"(`[^`]*`)", text)
    shown = [part if part.startswith("`") else re.sub(r"([*_<>\[\]{}#|])", r"\\\1", part) for part in parts]
    return "".join(shown).replace("\n", "\\\n")


def setup(app: Any) -> dict[str, bool]:
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir) / "reference"))
    return {"parallel_read_safe": True}
