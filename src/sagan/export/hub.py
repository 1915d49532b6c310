"""A trained generator as the Hugging Face hub expects it: a folder with weights, settings, a card and samples."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from sagan.core.sampling import numbered_images
from sagan.data.sources.own import SOFTWARE
from sagan.export.check import Agreement, compare, plain_outputs
from sagan.export.subject import Subject, round_to_half
from sagan.run.build import describe_attention
from sagan.run.card import commit, versions
from sagan.run.classes import list_classes
from sagan.run.config import to_dict, without_places
from sagan.run.folder import Run
from sagan.run.places import MODEL, find_snapshot
from sagan.run.plan import train_words
from sagan.run.records import ScoreRecord
from sagan.run.weights import Snapshot, load_snapshot, save_snapshot
from sagan.system.callbacks import Say
from sagan.system.errors import UserError
from sagan.system.files import file_sha256, whole_folder
from sagan.system.images import grid, save_png
from sagan.system.sentences import command, visible

PICTURED = 64
_TAGS = ("sagan", "gan", "self-attention", "pytorch")


def export_hub(
    place: Path,
    out: Path,
    *,
    step: int | None = None,
    license: str = "",
    name: str = "",
    half: bool = False,
    say: Say = lambda sentence: None,
) -> Snapshot:
    """Writes the folder ``out``: the snapshot as ``model.safetensors``, its settings as ``config.json``, the model card
    ``README.md`` and a grid of samples; returns the snapshot as it is read from there, and says how it agrees
    with the original.

    ``license``: its identifier on the hub, such as ``mit`` or ``cc-by-4.0``, or "" for none. ``half``: weights in half
    precision. `sagan.load` and ``sagan sample`` take the folder. Raises UserError for a place without a snapshot, for a
    folder that is not empty, and where what is read differs; then nothing is written.
    """
    path = find_snapshot(place, step)
    snapshot = load_snapshot(path)
    with whole_folder(out) as folder:
        save_snapshot(folder / MODEL, snapshot, half=half)
        written = load_snapshot(folder / MODEL)
        say(f"largest difference: {_compare(snapshot, written, path, half)}")
        config = {"model_type": "sagan", "step": snapshot.step, **to_dict(without_places(snapshot.config))}
        text = json.dumps(config, indent=1, allow_nan=False)
        (folder / "config.json").write_text(text + "\n", encoding="utf-8")
        numbers = range(PICTURED)
        images = [image for _, image in numbered_images(written.generator, 0, numbers, device=torch.device("cpu"))]
        save_png(grid(torch.stack(images)), folder / "samples.png", software=SOFTWARE)
        title = _text(name or place.resolve().name)
        card = "\n".join(_card(title, written, _scores(path, snapshot), license, half)) + "\n"
        (folder / "README.md").write_text(card, encoding="utf-8")
    return written


def _compare(snapshot: Snapshot, written: Snapshot, path: Path, half: bool) -> Agreement:
    """How what was written agrees with the original, whose weights are rounded where they are stored in half precision.
    Raises UserError where it does not."""
    original = copy.deepcopy(snapshot.generator)
    if half:
        round_to_half(original, path)
    subject, read = (Subject(each, snapshot.config, snapshot.step, path) for each in (original, written.generator))
    return compare(subject, plain_outputs(subject), plain_outputs(read))


def check_repository(name: str) -> None:
    """Raises UserError, before anything is written, for a name that no repository has."""
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name, re.ASCII) is None:
        raise UserError(f"`push` must be OWNER/NAME, got {visible(name)}")


def push(folder: Path, repository: str, *, private: bool = False) -> str:
    """Uploads a folder of `export_hub` to the hub as ``OWNER/NAME``; returns its address.

    Raises UserError without a token, without a network and for a name that the hub refuses.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
    except ModuleNotFoundError as error:
        raise UserError("--push needs an extra: pip install 'sagan-attention[export]'") from error
    api = HfApi(library_name="sagan")
    try:
        address = str(api.create_repo(repository, private=private, exist_ok=True))
        api.upload_folder(folder_path=folder, repo_id=repository, commit_message="A generator trained by sagan")
    except HFValidationError as error:
        raise UserError(f"{visible(repository)} is no name on the hub: give OWNER/NAME") from error
    except LocalTokenNotFoundError as error:
        raise UserError("the hub does not know you: `hf auth login` stores a token") from error
    except HfHubHTTPError as error:
        why = error.server_message or str(error).splitlines()[0]
        raise UserError(f"the hub refuses {visible(repository)}: {visible(why)}; {folder} is complete") from error
    except Exception as error:
        if not isinstance(error, OSError) and not type(error).__module__.startswith("httpx"):
            raise
        raise UserError(f"the hub cannot be reached ({visible(str(error))}); {folder} is complete") from error
    return address


# ---- the model card


def _scores(path: Path, snapshot: Snapshot) -> list[ScoreRecord]:
    """The newest score of each metric of this snapshot, if it lies in its run."""
    folder = path.absolute().parents[1]
    if not (path.parent.name == "snapshots" and (folder / "config.json").is_file()):
        return []
    sha256 = file_sha256(path)
    made = Run(folder).records_of(ScoreRecord)
    own = [score for score in made if score.step == snapshot.step and score.card.truncation is None]
    return list({score.metric: score for score in own if score.snapshot_sha256 in (None, sha256)}.values())


def _card(name: str, snapshot: Snapshot, scores: list[ScoreRecord], license: str, half: bool) -> Iterator[str]:
    """The lines of the card."""
    config, model = without_places(snapshot.config), snapshot.config.model
    yield "---"
    yield "library_name: sagan"
    yield "pipeline_tag: unconditional-image-generation"
    if license:
        yield f"license: {json.dumps(license)}"
    yield f"tags: {json.dumps(_TAGS)}"
    yield "---"
    yield ""
    yield f"# {name}"
    yield ""
    conditional = f", conditional on {model.num_classes} classes" if model.num_classes else ""
    parameters = sum(each.numel() for each in snapshot.generator.parameters())
    yield f"A self-attention GAN: {model.shape} images{conditional}, {parameters:,} parameters in the generator,"
    yield f"{snapshot.step:,} training steps of {config.game.batch_size} images, weights averaged over training."
    yield ""
    yield "![samples](samples.png)"
    yield ""
    yield "It needs the program that made it, sagan, from its own repository: on PyPI another package has this name."
    yield ""
    yield "```sh"
    yield "sagan sample hf:OWNER/NAME --out samples   # or the folder with this file"
    yield "```"
    yield ""
    yield "```python"
    yield "import sagan"
    yield 'images = sagan.load("hf:OWNER/NAME").images(16, seed=0)'
    yield "```"
    yield ""
    yield f"Inputs: latents z ({model.z_dim} standard normal numbers){', and a class number' if conditional else ''}."
    if snapshot.classes:
        yield f"Classes: {_text(list_classes(snapshot.classes))}."
    yield ""
    yield "## Attention"
    yield ""
    yield from (f"* {line}" for line in describe_attention(model))
    yield ""
    yield "## Training"
    yield ""
    images = snapshot.images or "unknown"
    yield f"Images: {_text(config.data.dataset or config.data.data or 'drawn faces')}, hash of their pixels `{images}`."
    yield ""
    yield "```sh"
    yield command(*train_words(config))
    yield "```"
    yield ""
    if snapshot.step != config.run.total_step:
        yield f"This is the snapshot of step {snapshot.step:,} of that training."
        yield ""
    made = ", ".join(f"{package} {version}" for package, version in versions().items())
    yield f"Exported with {made}, commit {commit() or 'unknown'}."
    yield ""
    yield "## Scores"
    yield ""
    yield from _score_lines(scores, half)


def _text(name: str) -> str:
    """A name from elsewhere as text, not markup."""
    return re.sub(r"[\\`*_<>|\[\]]", lambda found: f"\\{found[0]}", visible(name)).replace("\\<", "&lt;")


def _score_lines(scores: list[ScoreRecord], half: bool) -> Iterator[str]:
    if not scores:
        yield "None yet: `sagan evaluate RUN` computes them."
        return
    rounded = ", before its weights were rounded to half precision" if half else ""
    yield f"Of this snapshot{rounded}. The floor is the score of one half of the real images against the other."
    yield ""
    yield "| metric | value | floor | samples | real images | extractor |"
    yield "|---|---|---|---|---|---|"
    for score in sorted(scores, key=lambda score: score.metric != "frechet"):
        card = score.card
        about = f" ± {score.spread:.3g}" if score.spread is not None else ""
        floor = "" if score.floor is None else f"{score.floor:.4g}"
        counts = f"{card.samples:,} | {card.reference_samples:,}"
        yield f"| {_text(score.label)} | {score.value:.4g}{about} | {floor} | {counts} | {_text(card.extractor)} |"
