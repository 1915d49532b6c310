"""The files in an archive: which of them are visible, and which this program made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Generic, TypeVar

from sagan.data.sources.names import COPIES, FORMATS, visible
from sagan.data.sources.own import FIGURES, what_is_ours
from sagan.system.errors import UserError
from sagan.system.sentences import plural

LONGEST, DEEPEST = 4096, 100  # the characters of a member's name and its folders, each of which is kept by its path

Member = TypeVar("Member")


@dataclass
class Members(Generic[Member]):
    """The visible files of an archive by name, and how many are left out, by the reason. ``root_is``: what of this
    program all of it is."""

    members: dict[str, Member] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    root_is: str = ""


class _Tree(dict[str, "_Tree"]):
    """What is in a folder, by name; empty for a file. Folders are not named by their whole paths, which would take many
    times the memory of the names."""


def list_members(entries: Iterable[tuple[str, Member]]) -> Members[Member]:
    """What an archive holds, by the names as they are in it, those of folders ending in a slash; of two files with one
    name the later, as when it is unpacked."""
    named = {name: (raw, member) for raw, member in entries if (name := unpacked_name(raw))}
    tree = _Tree()
    for name in named:
        node = tree
        for part in name.split("/"):
            node = node.setdefault(part, _Tree())
    ours = dict(_ours(tree))
    found, top, node = Members[Member](), "", tree
    while top not in ours and len(node) == 1 and (below := next(iter(node.values()))):
        top, node = f"{top}/{next(iter(node))}".lstrip("/"), below  # the folder that holds all the others
    found.root_is = ours.pop(top, "")
    for name, (raw, member) in named.items():
        if not raw.endswith(("/", "\\")) and not _node(tree, name):
            why, shown = why_left_out(name, ours)
            if why:
                found.left_out[why] += 1
            elif shown:
                found.members[name] = member
    return found


def _ours(tree: _Tree) -> Iterator[tuple[str, str]]:
    """The paths of the folders that this program made, and what each is."""
    folders = [("", tree)]
    while folders:
        path, node = folders.pop()
        if what := what_is_ours(node):
            yield path, what
        folders += [(f"{path}/{name}".lstrip("/"), below) for name, below in node.items() if below]


def _node(tree: _Tree, name: str) -> _Tree:
    for part in name.split("/"):
        tree = tree[part]
    return tree


def why_left_out(name: str, ours: dict[str, str]) -> tuple[str, bool]:
    """Why a member is left out, for a person, or ""; then whether it is visible."""
    folders = name.split("/")[:-1]
    for depth, folder in enumerate(folders, 1):
        path = "/".join(folders[:depth])
        if path in ours:
            return f"under {path}: {ours[path]} of sagan", False
        if folder.startswith(COPIES):
            return f"under {COPIES}*: copies made by the published program", False
        if not visible(PurePosixPath(folder)):
            return ("" if folder.startswith(".") else f"under {path}: made by the system"), False
    return "", visible(PurePosixPath(name))


def unpacked_name(name: str) -> str:
    """The name that a member has once it is unpacked, by Python or a program that is as careful: without "." and "..",
    below one folder. Windows programs that wrote backslashes meant folders."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", ".", ".."))


def refuse_ours(path: Path, listed: Members[Member]) -> str:
    """What of this program an archive holds that can be scored, or "". Raises UserError for what is nothing to read."""
    if listed.root_is not in ("", FIGURES):
        raise UserError(f"{path} holds {listed.root_is} of sagan, not images to train on")
    return listed.root_is


def describe_aside(listed: Members[Member], others: int) -> str:
    """What of an archive is not read, in brackets."""
    aside = f" ({plural(others, 'other member')} ignored)" if others else ""
    return aside + "".join(f" (left out {count:,} {why})" for why, count in sorted(listed.left_out.items()))


def no_images_in(path: Path, listed: Members[Member]) -> str:
    database = next((name for name in listed.members if PurePosixPath(name).name == "data.mdb"), None)
    if database:
        return f"{path} holds an LMDB ({database}), which cannot be read packed: unpack it and name its folder"
    aside = "".join(f", and left out {count:,} {why}" for why, count in sorted(listed.left_out.items()))
    others = plural(len(listed.members), "other member")
    return f"no images found in {path}: looked for {', '.join(FORMATS)}; found {others}{aside}"
