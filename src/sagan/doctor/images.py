"""What is wrong with images, by what was measured of each: every check is a function of the looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from sagan.core.shapes import ImageShape
from sagan.doctor.figures import FRAME, VIEWS
from sagan.doctor.findings import Finding, Picture, Severity, first_names
from sagan.doctor.looks import Figures, Looks
from sagan.doctor.pairs import Numbers, equal_groups, groups_of, near_pairs
from sagan.doctor.pictures import crop_picture, side_by_side
from sagan.system.sentences import plural

# How each threshold was chosen is in docs/doctor.md.
SHARE = 0.01  # of the images, from which a fault is more than a note
FEWEST, FEW, ENOUGH = 100, 1000, 5000  # images
BLOCKED = 1.6  # of `blocking`
PLAIN = 4.0  # levels of contrast below which an image shows nothing
_HASHED = 8.0  # levels of contrast from which a hash tells one image from another
_BORDER = 0.01  # of a side, and at least two lines
_OFTEN = 10  # copies of one image
_LAID_AT_LEAST = 30  # images, to see what is at one place in all of them
_COHERENT, _VISIBLE = 1.25, 2.0  # a mean edge, as a share of its spread, and in levels
_AMPLIFIED = 8  # times an edge in the picture of what images have in common
_OVERLAY = 0.002, 0.3  # of the frame: a letter or two, and more than any sign covers
_APART, _SURE, _PART = 0.5, 10.0, 0.02  # standard deviations, standard errors, and the smaller part
_LOST = 0.4  # of an image's area
_LONGEST = 4  # times the shorter side, of a shape that is advised
_UNEVEN, _RARE = 10.0, 10  # the largest class as a multiple of the smallest; images of a class
_GROUPS, _IN_GROUP, _SINGLES = 12, 6, 24  # shown at most

Flags = npt.NDArray[np.bool_]


def examine_images(looks: Looks, shape: ImageShape, crop: str) -> list[Finding]:
    """All findings about the images of a source, which will be prepared with a shape and a crop."""
    readable = looks.figures["readable"]
    findings = [*_unreadable(looks), *_remarks(looks)]
    if not readable.any():
        return findings
    findings += _of_size(looks, shape, crop)
    checks: Sequence[Callable[[Looks], Iterable[Finding]]] = (
        *(_copies, _plain, _grey, _transparent, _turned, _blocked, _bordered),
        *(_overlaid, _two_histories, _classes, _amount),
    )
    for check in checks:
        findings += check(looks)
    return [*findings, *_crops(looks, shape, crop)]


def _numbers(flags: Flags) -> Numbers:
    return np.flatnonzero(flags)


def _total(looks: Looks) -> int:
    return int(looks.figures["readable"].sum())


def _graded(count: int, total: int) -> Severity:
    return "warning" if count >= SHARE * total else "note"


def _names(looks: Looks, numbers: Iterable[int]) -> tuple[str, ...]:
    return tuple(looks.name(number) for number in numbers)


def _singles(numbers: Numbers) -> tuple[tuple[int, ...], ...]:
    return tuple((number,) for number in numbers[:_SINGLES].tolist())


def _some(
    looks: Looks, flags: Flags, kind: str, what: str, remedy: str, severity: Severity | None = None
) -> list[Finding]:
    """A finding about the images that are flagged, if there are any. ``what``: is true of them."""
    numbers = _numbers(flags & looks.figures["readable"])
    if not len(numbers):
        return []
    names = _names(looks, numbers)
    text = f"{what}: {plural(len(numbers), 'image')} ({first_names(names)})"
    grade = severity or _graded(len(numbers), _total(looks))
    return [Finding(grade, kind, text, remedy, len(numbers), names, _singles(numbers))]


# ---- what cannot be read, and what the reader says


def _unreadable(looks: Looks) -> list[Finding]:
    if not looks.refused:
        return []
    said = tuple(f"{looks.name(each.number)} ({each.text})" for each in looks.refused)
    if len(said) == len(looks.figures):
        return [Finding("stop", "unreadable", f"no image can be read: {first_names(said)}", "", len(said), said)]
    text = f"{plural(len(said), 'image')} cannot be read and will be skipped: {first_names(said)}"
    remedy = "remove or replace them; --strict refuses them when training begins"
    return [Finding("warning", "unreadable", text, remedy, len(said), said)]


def _remarks(looks: Looks) -> Iterator[Finding]:
    for sentence in looks.source.remarks:
        yield Finding("warning", "source", sentence)
    numbers: dict[str, list[int]] = {}
    for each in looks.remarks:
        numbers.setdefault(each.text, []).append(each.number)
    for text, found in numbers.items():
        names = _names(looks, found)
        yield Finding(
            _graded(len(found), _total(looks)),
            "remark",
            f"{text}: {plural(len(found), 'image')} ({first_names(names)})",
            "",
            len(found),
            names,
            _singles(np.array(found)),
        )


# ---- size and crop


def _of_size(looks: Looks, shape: ImageShape, crop: str) -> list[Finding]:
    width, height, readable = (looks.figures[name] for name in ("width", "height", "readable"))
    what = f"smaller than {shape}, and enlarged, which blurs them"
    remedy = "leave them out, or train at a smaller --imsize"
    found = _some(looks, (width < shape.width) | (height < shape.height), "small", what, remedy)
    if crop.isdecimal():
        wide, tall = (round(int(crop) * side / shape.shorter) for side in (shape.width, shape.height))
        cut = (width < wide) | (height < tall)
        what = f"smaller than the {tall}x{wide} pixels to cut out, and skipped"
        severity: Severity = "stop" if cut[readable].all() else "warning"
        found += _some(looks, cut, "cut", what, "give a smaller --crop", severity)
    return found


def kept(figures: Figures, shape: ImageShape) -> npt.NDArray[np.float64]:
    """The share of each image that is in the largest part of a shape's aspect."""
    across = figures["width"].astype(float) * shape.height
    down = figures["height"].astype(float) * shape.width
    shares: npt.NDArray[np.float64] = np.minimum(across, down) / np.maximum(across, down)
    return shares


def fitting_shape(looks: Looks, shorter: int) -> ImageShape:
    """The shape, with this shorter side, whose aspect most images nearly have: a square, unless it loses much of most
    images, and the other shape loses much less."""
    square, figures = ImageShape.square(shorter), looks.figures[looks.figures["readable"]]
    if not len(figures) or shorter & (shorter - 1):
        return square
    ratio = float(np.median(figures["width"] / figures["height"]))
    step = shorter // 4  # of the longer side: that of the networks' first map, enlarged
    longer = max(1, round(max(ratio, 1 / ratio) * 4)) * step
    other = ImageShape(square.channels, *((shorter, longer) if ratio > 1 else (longer, shorter)))
    better = np.median(kept(figures, square)) < 1 - _LOST < np.median(kept(figures, other))
    return other if better and longer <= _LONGEST * shorter else square


def _crops(looks: Looks, shape: ImageShape, crop: str) -> list[Finding]:
    """What each crop loses, and a picture of it: the images of the usual shape, and of the most unusual ones."""
    figures = looks.figures[looks.figures["readable"]]
    width, height = figures["width"], figures["height"]
    (across, down), count = Counter(zip(width.tolist(), height.tolist(), strict=True)).most_common(1)[0]
    if count == len(figures):
        text = f"sizes and crops: all have {across}x{down} pixels (width x height)"
    else:
        ends = f"{width.min()}x{height.min()} to {width.max()}x{height.max()}"
        text = f"sizes and crops: from {ends} pixels (width x height), most often {across}x{down}"
    shares = kept(figures, shape)
    if shares.min() == 1:
        return [Finding("note", "crops", text)]
    median, low = float(np.median(shares)), float(np.quantile(shares, 0.05))
    text += f"; fill (for squares, square) keeps {median:.0%} of an image, {low:.0%} or less of one in 20"
    text += (
        f"; squash keeps all and stretches it {1 / median:.2f} times; pad keeps all and adds {1 - median:.0%} of ground"
    )
    lost, better = median < 1 - _LOST and crop in ("auto", "square", "fill"), fitting_shape(looks, shape.shorter)
    remedy = f"--imsize {better.size} keeps more, " if better != shape and lost else ""
    remedy = f"{remedy}--crop pad or squash keeps the whole image" if lost else ""
    numbers = _numbers(looks.figures["readable"])
    order = np.argsort(width / height, kind="stable")
    chosen = dict.fromkeys(int(numbers[order[int(part * (len(order) - 1))]]) for part in (0, 0.25, 0.5, 0.75, 1))
    pictures = tuple(filter(None, (crop_picture(looks, number, shape) for number in chosen)))
    return [Finding("warning" if lost else "note", "crops", text, remedy, pictures=pictures)]


# ---- copies


def _copies(looks: Looks) -> list[Finding]:
    """Images that are there several times, to the pixel or nearly."""
    figures, total = looks.figures, _total(looks)
    groups = equal_groups(figures["pixels"], _numbers(figures["readable"]))
    found = []
    if groups:
        extra = sum(len(group) - 1 for group in groups)
        largest = len(groups[0])
        often = f"; one image {largest:,} times" if largest >= _OFTEN else ""
        found.append(
            Finding(
                _graded(extra, total),
                "duplicates",
                f"{plural(extra, 'image')} to spare, equal to others: {_first_groups(looks, groups)}{often}",
                "keep one of each, unless it is to be drawn more often than others",
                extra,
                _group_names(looks, groups),
                _shown(groups),
            )
        )
    spare = {number for group in groups for number in group[1:]}
    compared = np.array([n for n in _hashed(looks).tolist() if n not in spare], np.intp)
    pairs, _ = near_pairs(figures["rows"][compared])
    near = groups_of((int(compared[a]), int(compared[b])) for a, b in pairs)
    if near:
        extra = sum(len(group) - 1 for group in near)
        found.append(
            Finding(
                _graded(extra, total),
                "near duplicates",
                f"{plural(extra, 'image')} to spare, nearly equal to others: {_first_groups(looks, near)}",
                "look at the pairs: copies in another size, tone or compression teach little and are drawn more often",
                extra,
                _group_names(looks, near),
                _shown(near),
            )
        )
    return found


def _hashed(looks: Looks) -> Numbers:
    return _numbers(looks.figures["readable"] & (looks.figures["contrast"] >= _HASHED))


def _first_groups(looks: Looks, groups: Sequence[Sequence[int]]) -> str:
    return first_names([" = ".join(_names(looks, group[:2])) for group in groups])


def _group_names(looks: Looks, groups: Sequence[Sequence[int]]) -> tuple[str, ...]:
    return tuple(" = ".join(_names(looks, group)) for group in groups)


def _shown(groups: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(group[:_IN_GROUP]) for group in groups[:_GROUPS])


def examine_overlap(looks: Looks, heldout: Looks, where: str) -> list[Finding]:
    """Whether images are also among those that were held out, to the pixel or nearly. ``where``: these are."""
    own, others = looks.figures, heldout.figures
    known = {others["pixels"][number].tobytes(): number for number in _numbers(others["readable"]).tolist()}
    same = [
        (number, known[own["pixels"][number].tobytes()])
        for number in _numbers(own["readable"]).tolist()
        if own["pixels"][number].tobytes() in known
    ]
    mine, theirs = _hashed(looks), _hashed(heldout)
    pairs, _ = near_pairs(np.concatenate([own["rows"][mine], others["rows"][theirs]]))
    crossing = pairs[(pairs[:, 0] < len(mine)) & (pairs[:, 1] >= len(mine))]
    near = [(int(mine[a]), int(theirs[b - len(mine)])) for a, b in crossing]
    near = [pair for pair in near if own["pixels"][pair[0]].tobytes() != others["pixels"][pair[1]].tobytes()]
    remedy = "take them out of one of the two, or scores measure what was learned by heart"
    found = []
    for kind, what, each in (("overlap", "also", same), ("near overlap", "nearly", near)):
        if each:
            names = tuple(f"{looks.name(a)} = {heldout.name(b)}" for a, b in each)
            count = len({a for a, _ in each})
            text = f"{plural(count, 'image')} {'is' if count == 1 else 'are'} {what} in {where}: {first_names(names)}"
            pictures = tuple(side_by_side([(looks, pair[0]), (heldout, pair[1])]) for pair in each[:_GROUPS])
            found.append(Finding("warning", kind, text, remedy, count, names, pictures=tuple(filter(None, pictures))))
    return found or [Finding("sound", "overlap", f"none of the images is in {where}, nor nearly")]


# ---- what an image looks like


def _plain(looks: Looks) -> list[Finding]:
    what = "nothing to see, as all pixels are nearly alike"
    flat: Flags = np.asarray(looks.figures["contrast"]) < PLAIN
    return _some(looks, flat, "plain", what, "remove them")


def _grey(looks: Looks) -> list[Finding]:
    grey = looks.figures["grey"]
    count, total = int(grey.sum()), _total(looks)
    if count == total:
        return [Finding("note", "grey", f"all {plural(total, 'image')} are grey", count=total)]
    if 2 * count > total:
        return _some(looks, ~grey, "colour", "with colours, where most are grey", "make all of one kind")
    return _some(looks, grey, "grey", "grey, where most have colours", "make all of one kind, or colours fade")


def _transparent(looks: Looks) -> list[Finding]:
    what = "transparent in places"
    severity: Severity = "note" if looks.figures["alpha"].sum() == _total(looks) else "warning"
    remedy = "make all of one kind: what is laid over white has a white ground" if severity == "warning" else ""
    return _some(looks, looks.figures["alpha"], "transparent", what, remedy, severity)


def _turned(looks: Looks) -> list[Finding]:
    what = "turned or mirrored as their EXIF says"
    remedy = "nothing to do, if they are upright here"
    return _some(looks, looks.figures["turned"], "turned", what, remedy, "note")


def _blocked(looks: Looks) -> list[Finding]:
    what = "blocks of strong JPEG compression, which would be learned"
    return _some(looks, looks.figures["blocking"] > BLOCKED, "blocks", what, "take better copies, or leave them out")


def _bordered(looks: Looks) -> list[Finding]:
    figures = looks.figures
    sides = np.stack([figures["width"], figures["height"], figures["width"], figures["height"]], 1)
    wide: Flags = np.any(figures["borders"] >= np.maximum(2, _BORDER * sides), axis=1)
    what = "plain borders, which would be learned"
    return _some(looks, wide, "borders", what, "cut them off, or cut them away with --crop PIXELS")


def _overlaid(looks: Looks) -> list[Finding]:
    """Text, a watermark or a frame: edges of one sign at one place in all images, where those of pictures cancel
    (Dekel et al. 2017, "On the Effectiveness of Visible Watermarks")."""
    for view, name in enumerate(VIEWS):
        mean, spread, laid = looks.mean[view], looks.spread[view], looks.laid[view]
        strength = np.abs(mean)
        marked = (strength > _COHERENT * spread) & (strength > _VISIBLE)
        if laid < _LAID_AT_LEAST or not _OVERLAY[0] <= marked.mean() <= _OVERLAY[1]:
            continue
        rows, columns = (np.flatnonzero(marked.any(axis)) for axis in (1, 0))
        at = f"{_part(rows, 'top', 'middle', 'bottom')} {_part(columns, 'left', 'centre', 'right')}"
        text = "something is at one place in most images, such as text, a watermark or a frame: "
        text += at if view == 0 else f"in the {name} corner"
        shown = np.clip(128 + _AMPLIFIED * mean, 0, 255).astype(np.uint8)
        picture = Image.fromarray(shown).resize((2 * FRAME, 2 * FRAME), Image.Resampling.NEAREST)
        caption = f"the edges that {laid:,} images have in common"
        remedy = "cut it away or take copies without it, or it will be in every image that is drawn"
        return [Finding("warning", "overlay", text, remedy, laid, pictures=(Picture(picture, caption, sharp=True),))]
    return []


def _part(found: Numbers, *names: str) -> str:
    return names[min(2, int(3 * found.mean() / FRAME))]


def _two_histories(looks: Looks) -> list[Finding]:
    """Whether the images differ from some name on, in what only their history tells: how sharp they are, and blocks."""
    if not looks.source.no_classes:
        return []  # classes are in the order of names, and may differ in anything
    numbers = _numbers(looks.figures["readable"])
    words = {"sharpness": "less sharp", "colour_sharpness": "less sharp in their colours", "blocking": "less blocky"}
    found = []
    for name, less in words.items():
        values = np.log(np.maximum(looks.figures[name][numbers], 1e-3))
        split = change(values)
        if split is not None:
            at, apart = split
            first_is_less = values[:at].mean() < values[at:].mean()
            found.append((abs(apart), at, f"the {'first' if first_is_less else 'last'} are {less}"))
    if not found:
        return []
    apart, at, what = max(found)
    before, after = int(numbers[at - 1]), int(numbers[at])
    text = (
        f"the images seem to be of two histories: from about {looks.name(after)} on ({len(numbers) - at:,} of "
        f"{len(numbers):,}, by name) they differ, {what} ({apart:.1f} standard deviations)"
    )
    remedy = "prepare all in one way: two scales or compressions are two kinds of image to learn"
    return [Finding("warning", "two histories", text, remedy, min(at, len(numbers) - at), shown=((before,), (after,)))]


def change(values: npt.NDArray[np.floating]) -> tuple[int, float] | None:
    """Where in a series the mean changes the most for certain, as the number of values before it, and by how many
    standard deviations; None where it changes little, or perhaps by chance."""
    count = len(values)
    least = max(10, int(_PART * count))
    if count < 2 * least:
        return None
    values = np.clip(values, *np.quantile(values, (_PART, 1 - _PART)))  # a few odd images have no say
    sums, sizes = np.cumsum(values, dtype=np.float64)[:-1], np.arange(1, count)
    before, after = sums / sizes, (values.sum(dtype=np.float64) - sums) / (count - sizes)
    within = values.var(dtype=np.float64) - sizes * (count - sizes) / count**2 * (before - after) ** 2
    apart = (after - before) / np.sqrt(np.maximum(within, 1e-12))
    sure = np.abs(apart) * np.sqrt(sizes * (count - sizes) / count)
    at = least - 1 + int(np.argmax(sure[least - 1 : count - least]))
    return (at + 1, float(apart[at])) if abs(apart[at]) >= _APART and sure[at] >= _SURE else None


# ---- how many


def _classes(looks: Looks) -> list[Finding]:
    source = looks.source
    if source.no_classes:
        return [Finding("note", "classes", f"no classes: {source.no_classes}")]
    counts = Counter(str(source.class_of(int(number))) for number in _numbers(looks.figures["readable"]))
    (most, largest), (least, smallest) = counts.most_common(1)[0], counts.most_common()[-1]
    text = f"{plural(len(counts), 'class')}, of {smallest:,} ({least}) to {largest:,} images ({most})"
    uneven = largest >= _UNEVEN * smallest or smallest < _RARE
    remedy = (
        "classes with few images are learned badly: add to them, merge them or train without classes" if uneven else ""
    )
    names = tuple(f"{name}: {count:,}" for name, count in counts.most_common())
    return [Finding("warning" if uneven and len(counts) > 1 else "note", "classes", text, remedy, 0, names)]


def _amount(looks: Looks) -> list[Finding]:
    """How many images there are, and what others reached with so many."""
    count = _total(looks)
    if count < FEW:
        said = (
            "DiffAugment has drawn portraits from 100 images of one face (arXiv 2006.10738), and images resemble those"
        )
    elif count < ENOUGH:
        said = "StyleGAN2-ADA gets good results from a few thousand images, by augmenting them (arXiv 2006.06676)"
    else:
        said = "StyleGAN2-ADA often needs a few thousand images where others took ten times as many (arXiv 2006.06676)"
    remedy = "--augment color translation cutout, and --flip if they may be mirrored" if count < ENOUGH else ""
    return [Finding("warning" if count < FEWEST else "note", "amount", f"{plural(count, 'image')}: {said}", remedy, 0)]
