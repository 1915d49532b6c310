"""What the doctor says: as lines for a terminal, as JSON, and as a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagan.doctor.findings import SEVERITIES, Finding, Picture, exit_status, worst_first
from sagan.pages.render import render
from sagan.system.files import write_whole
from sagan.system.paths import command_without_paths, without_paths
from sagan.system.sentences import as_flag, name_settings

_WORDS = {0: "sound", 1: "there are warnings", 2: "cannot train"}
_QUALITY = 88  # of pictures in the page, as JPEG
_LONGEST_LIST = 200  # names in the page; --json has all


@dataclass(frozen=True)
class Section:
    """Findings about one thing. ``draw``: the pictures of a finding's images."""

    heading: str
    about: str
    findings: Sequence[Finding]
    draw: Callable[[Finding], list[Picture]] = lambda finding: []


@dataclass(frozen=True)
class Report:
    """Everything that was found, and the commands to give next, each with sentences on it."""

    title: str
    sections: Sequence[Section]
    next: Sequence[tuple[str, Sequence[str]]] = ()

    @property
    def findings(self) -> list[Finding]:
        return worst_first(finding for section in self.sections for finding in section.findings)

    @property
    def status(self) -> int:
        """The exit status: 0 sound, 1 warnings, 2 cannot train."""
        return exit_status(self.findings)

    @property
    def verdict(self) -> str:
        counts = {name: sum(each.severity == name for each in self.findings) for name in ("stop", "warning", "note")}
        words = {"stop": "in the way of training", "warning": "to look at", "note": "to know"}
        parts = [f"{count} {words[name]}" for name, count in counts.items() if count]
        return f"{_WORDS[self.status]}: {', '.join(parts)}" if parts else _WORDS[self.status]


def lines(report: Report) -> Iterator[str]:
    """The report for a terminal, worst first in each section; where there are several, without what is sound."""
    shown = [name for name in SEVERITIES if name != "sound" or len(report.sections) == 1]
    for section in report.sections:
        yield f"{section.heading}: {section.about}" if section.about else section.heading
        for finding in worst_first(each for each in section.findings if each.severity in shown):
            remedy = f" -> {finding.remedy}" if finding.remedy else ""
            yield f"  {finding.severity:8} {finding.text}{remedy}"
    yield f"verdict: {report.verdict}"
    for command, sentences in report.next:
        yield f"next: {command}"
        for sentence in sentences:
            yield f"  {sentence}"


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain values; every finding with all of its names."""
    sections = [
        {
            "heading": section.heading,
            "about": section.about,
            "findings": [_plain(f) for f in worst_first(section.findings)],
        }
        for section in report.sections
    ]
    commands = [{"command": command, "about": list(sentences)} for command, sentences in report.next]
    return {
        "title": report.title,
        "status": report.status,
        "verdict": report.verdict,
        "sections": sections,
        "next": commands,
    }


def _plain(finding: Finding) -> dict[str, Any]:
    names = ("severity", "kind", "text", "remedy", "count")
    return {name: getattr(finding, name) for name in names} | {"names": list(finding.names)}


def write_page(report: Report, path: Path, places: Sequence[Path] = ()) -> None:
    """Writes the report as one HTML file with its pictures in it. It names no folder of this machine, and of those in
    ``places`` only the last name."""

    def shown(text: str) -> str:
        return without_paths(name_settings(text, as_flag), places)

    sections = [
        {
            "heading": section.heading,
            "about": shown(section.about),
            "findings": [_on_page(finding, section, shown) for finding in worst_first(section.findings)],
        }
        for section in report.sections
    ]
    commands = [(command_without_paths(command), [shown(each) for each in about]) for command, about in report.next]
    page = render(
        "doctor.html",
        title=shown(report.title),
        verdict=report.verdict,
        status=report.status,
        severities=SEVERITIES,
        sections=sections,
        commands=commands,
    )
    write_whole(path, lambda file: file.write(page.encode()), sync=False)


def _on_page(finding: Finding, section: Section, shown: Callable[[str], str]) -> dict[str, Any]:
    pictures = [*finding.pictures, *section.draw(finding)]
    return {
        "severity": finding.severity,
        "text": shown(finding.text),
        "remedy": shown(finding.remedy),
        "names": [shown(name) for name in finding.names[:_LONGEST_LIST]],
        "more": max(0, len(finding.names) - _LONGEST_LIST),
        "pictures": [
            {
                "source": _embedded(each),
                "width": each.image.width,
                "height": each.image.height,
                "caption": shown(each.caption),
            }
            for each in pictures
        ],
    }


def _embedded(picture: Picture) -> str:
    kind = "png" if picture.sharp else "jpeg"
    data = io.BytesIO()
    picture.image.save(data, kind.upper(), quality=_QUALITY)
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
