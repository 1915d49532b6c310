"""Paths in what is handed on: a page or a file that others read should name no folder of this machine."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path, PurePath, PureWindowsPath

_START = r"(?:file://[^/\s]*/|~[\w.-]*[/\\]|(?:\.\.[/\\])+|/|[A-Za-z]:[/\\]|\\\\)"
_QUOTED = re.compile(rf"(['\"`])({_START}[^'\"`]*)\1")
_PART = r"(?:[^\s'\"`,;:()<>/\\]|\([^\s()/\\]*\))"  # a character of a name, or brackets in it
_FILE = rf"(?:{_PART}+(?: {_PART}+){{0,4}}[/\\]+)*{_PART}+\.[A-Za-z]\w{{0,4}}(?!\w)"  # in folders with spaces
_PLAIN = re.compile(rf"(?<![\w./\\~-])(?<!:(?=//)){_START}(?:{_FILE}|(?:{_PART}+[/\\]+)*{_PART}*)")


def last_name(path: str) -> str:
    """The last part of a path, or of one of Windows; of any other text, and of a relative path, the text itself."""
    if re.match(_START, path) is None:
        return path
    kind = PurePath if path[0] in "/~" else PureWindowsPath
    return kind(path).name or "."


def without_paths(text: str, known: Iterable[Path] = ()) -> str:
    """A sentence in which absolute paths are cut to their last part, and paths in ``known`` folders to that folder.
    Relative paths stay, unless they lead out of the folder that they begin in."""
    for folder in sorted(known, key=lambda folder: len(str(folder)), reverse=True):
        name = folder.name.strip(".") or folder.resolve().name
        whole = rf"(?<![\w./\\~-]){re.escape(str(folder))}(?![\w~-]|\.[\w./])"
        text = re.sub(whole, name.replace("\\", "\\\\"), text)
    text = _QUOTED.sub(lambda found: f"{found[1]}{last_name(found[2])}{found[1]}", text)
    return _PLAIN.sub(lambda found: last_name(found[0]), text)


def command_without_paths(command: str) -> str:
    """A command in which absolute paths are cut to their last part."""
    try:
        words = shlex.split(command)
    except ValueError:  # not a command as shells read it
        return without_paths(command)
    return shlex.join(_word_without_path(word) for word in words)


def _word_without_path(word: str) -> str:
    flag, equals, value = word.partition("=")
    return f"{flag}={last_name(value)}" if equals and flag.startswith("--") else last_name(word)
