"""Runs that several processes train together: the same bits as one process, whatever happens to one of them."""

import hashlib
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sagan.core.game import average
from sagan.run.config import override
from sagan.run.folder import Run
from sagan.run.weights import load_checkpoint
from sagan.system import link
from sagan.system.console import Console
from sagan.system.world import Lost, World, joined
from sagan.training import guard, loop
from sagan.training.start import train_new, train_on
from sagan.training.trainer import Trainer
from tests import ranks
from tests.training.conftest import TINY

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are forked")

SHARDED = override(TINY, {"shards": 4, "total_step": 5, "checkpoint_every": 2, "guard_every": 2, "snapshot_every": 5})
GAMES = {
    "hinge": {"lecam": 0.1, "augment": ("color", "translation", "cutout"), "flip": True, "max_grad_norm": 1.0},
    "wgan-gp": {"adv_loss": "wgan-gp", "n_critic": 2},
    "rpgan": {
        "adv_loss": "rpgan",
        "r1": 0.1,
        "r2": 0.1,
        "penalty_every": 2,
        "network": "resnet",
        "num_classes": 3,
        "g_attention": None,
        "pool": 2,
    },
    "bf16": {"precision": "bf16", "num_classes": "auto"},
    "rollback": {"guard": "recover", "total_step": 6},  # in the last step
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """24 images in 3 classes."""
    folder = tmp_path_factory.mktemp("photos")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3)).astype(np.uint8)
    for number, image in enumerate(pixels):
        place = folder / f"class{number % 3}"
        place.mkdir(exist_ok=True)
        Image.fromarray(image).save(place / f"{number}.png")
    return folder


def config_of(photos, folder, **changes):
    return override(SHARDED, {"data": str(photos), "prepared": str(folder / "prepared"), **changes})


def collapse_once():
    """The guard sees a collapse at step 6 of the first attempt."""
    judged, seen = guard.judge, []

    def judge(looks, **options):
        if looks and looks[-1].step == 6 and not seen:
            seen.append(6)
            return guard.Verdict("diverged", "it was asked to", True)
        return judged(looks, **options)

    guard.judge = judge


def train(photos, folder, **changes):
    """Trains a run with the other processes, and measures batch norm over few z, which is quicker."""
    average._BATCHES = 1
    with joined() as world:
        train_new(config_of(photos, folder, run_dir=str(folder / "run"), **changes), Console(quiet=True), world=world)


def resume(rank, folder):
    average._BATCHES = 1
    with joined() as world:
        train_on(folder / "run", {}, Console(quiet=True), world=world)


def play(rank, photos, folder, game):
    collapse_once()
    train(photos, folder, **GAMES[game])


def bits(folder):
    """What must be the same of a run: all tensors of its checkpoint, and its records without clocks."""
    state, found = load_checkpoint(folder / "checkpoints" / "last.pt"), hashlib.sha256()

    def add(value):
        if isinstance(value, torch.Tensor):
            found.update(value.float().numpy().tobytes())
        elif isinstance(value, dict):
            for name in sorted(value, key=str):
                add(value[name])
        elif isinstance(value, list):
            for each in value:
                add(each)
        else:
            found.update(repr(value).encode())

    for name in ("step", "attempt", "generator", "discriminator", "average", "anchors", "g_optimizer", "d_optimizer"):
        add(dict(getattr(state, name)) if name.endswith("r") and name != "step" else getattr(state, name))
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    clocks = {"seconds", "images_per_second"}
    return found.hexdigest(), [{key: record[key] for key in record.keys() - clocks} for record in records]


@pytest.mark.parametrize("game", GAMES)
def test_the_bits_do_not_depend_on_the_number_of_processes(photos, tmp_path, game):
    for size in (1, 2, 4):
        ranks.run(size, play, photos, tmp_path / str(size), game)
    alone, two, four = (bits(tmp_path / str(size) / "run") for size in (1, 2, 4))
    assert two == alone == four
    assert any(record["kind"] == "rollback" for record in four[1]) == (game == "rollback")


def quickly():
    """Signs of life follow one another quickly, as these tests wait for one that is missing."""
    link._BEAT, link._STALE = 0.1, 0.5


LARGEST = World.largest


def between_two_agreements(world, *numbers):
    """The processes agree to go on, and at once one of them gets a signal."""
    agreed = LARGEST(world, *numbers)
    if numbers != (0, loop._GO):
        return agreed
    World.largest = LARGEST
    os.kill(os.getpid(), signal.SIGTERM)
    return agreed


def disturbed(rank, photos, folder, victim, moment, end):
    """Trains a run in which one process comes to a bad end at a moment."""
    quickly()
    advance = Trainer.advance

    def advancing(self, batches, step=None):
        if rank == victim and self.step == moment:
            if end == "late SIGTERM":
                World.largest = between_two_agreements
                return advance(self, batches, step)
            if end == "error":
                raise OSError(28, "No space left on device", "/full")
            os.kill(os.getpid(), signal.Signals[end])
        return advance(self, batches, step)

    Trainer.advance = advancing
    try:
        train(photos, folder)
    except Lost as error:
        return str(error)
    return "trained"


@pytest.fixture(scope="module")
def undisturbed(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    ranks.run(1, disturbed, photos, folder, None, None, None)
    return bits(folder / "run")


@pytest.mark.parametrize(
    ("victim", "end", "size"), [(1, "SIGKILL", 1), (0, "SIGKILL", 4), (1, "error", 2)], ids=["1", "0", "error"]
)
def test_a_lost_process_costs_nothing_but_time(photos, tmp_path, undisturbed, victim, end, size):
    began = time.monotonic()
    ended = ranks.finish(ranks.start(2, disturbed, photos, tmp_path, victim, 3, end))
    assert time.monotonic() - began < 30
    why = "No space left on device: /full" if end == "error" else "ended without a word"
    assert why in (ended.results[1 - victim] or "") or ended.statuses[1 - victim] == 2
    assert bits(tmp_path / "run") != undisturbed
    ranks.run(size, resume, tmp_path)
    assert bits(tmp_path / "run") == undisturbed


@pytest.mark.parametrize(
    ("victim", "sentence"),
    [
        (1, "error: rank 1 has not answered for 1 seconds; `sagan resume"),
        (0, "error: rank 0 has not answered for 1 seconds"),
    ],
)
def test_a_process_that_does_not_answer_ends_all(photos, tmp_path, victim, sentence):
    started = ranks.start(2, disturbed, photos, tmp_path, victim, 3, "SIGSTOP", environment={"SAGAN_TIMEOUT": 1})
    sleeper, other = started[victim][0], started[1 - victim][0]
    other.join(30)
    os.kill(sleeper.pid, signal.SIGKILL)
    ended = ranks.finish(started)
    assert ended.statuses[1 - victim] == 2
    assert sentence in ended.said[1 - victim]


@pytest.mark.parametrize(("victim", "end", "step"), [(1, "SIGTERM", 4), (0, "late SIGTERM", 5)])
def test_a_signal_to_any_process_saves_and_ends_all(photos, tmp_path, undisturbed, victim, end, step):
    ranks.run(2, disturbed, photos, tmp_path, victim, 3, end)
    assert load_checkpoint(Run.open(tmp_path / "run").checkpoint_file).step == step
    ranks.run(2, resume, tmp_path)
    assert bits(tmp_path / "run") == undisturbed


def damaged(rank, photos, folder, changes, what):
    """Trains a run in which a bit of rank 1's state changes in the third step."""
    quickly()
    advance = Trainer.advance

    def advancing(self, batches, step=None):
        measured = advance(self, batches, step)
        if rank == 1 and self.step == 3:
            network = self.average.module if what == "average" else self.generator
            first = next(network.parameters())
            changed = self.g_optimizer.state[first]["exp_avg_sq"] if what == "optimizer" else first.data
            changed = next(network.buffers()) if what == "buffer" else changed
            changed.view(-1)[:1] += 1
        if self.step == 4 and rank == 1 and what == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        return measured

    Trainer.advance = advancing
    try:
        train(photos, folder, **changes)
    except ValueError as error:
        return str(error)
    return "trained"


@pytest.mark.parametrize(
    ("what", "changes", "step"),
    [
        ("weights", {}, 4),
        ("average", {}, 4),
        ("optimizer", {}, 4),
        ("buffer", {}, 4),
        ("weights", {"checkpoint_every": 1000, "snapshot_every": 1000}, 5),  # the last step
        ("signal", {"checkpoint_every": 1000, "snapshot_every": 1000}, 4),
    ],
)
def test_a_state_that_is_not_that_of_all_is_not_saved(photos, tmp_path, what, changes, step):
    ended = ranks.finish(ranks.start(2, damaged, photos, tmp_path, changes, what), timeout=60)
    sentence = f"at step {step} the weights of rank 1 are not those of rank 0, so nothing is saved"
    assert all(said is None or sentence in said for said in ended.results)
    assert any(ended.results)
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    kept = load_checkpoint(last).step if last.exists() else None
    assert kept == (None if changes else 2)
    assert not list((tmp_path / "run").glob("snapshots/*"))


def refused(rank, photos, folder, others):
    quickly()
    changes = others if rank else {}
    place = Path(changes.pop("photos", photos))
    try:
        train(place, folder, **changes)
    except ValueError as error:
        return str(error)
    return "trained"


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ({"g_lr": 0.5}, "rank 1 has g_lr 0.5, and rank 0 0.0001"),
        ({"shards": 3, "batch_size": 9}, "rank 1 has batch_size 9, and rank 0 8"),
        ({"photos": True}, "the images here are not those of rank 0"),
    ],
)
def test_processes_that_are_not_alike_do_not_start(photos, tmp_path, others, sentence):
    if "photos" in others:
        others = {"photos": str(photos / "class0"), "prepared": str(tmp_path / "other")}
    ended = ranks.finish(ranks.start(2, refused, photos, tmp_path, others))
    assert sentence in (ended.results[1] or "")
    assert ended.results[0] is None or sentence in ended.results[0]


def test_shards_that_the_processes_cannot_divide_are_refused(photos, tmp_path):
    ended = ranks.finish(ranks.start(3, refused, photos, tmp_path, {}))
    assert "3 processes cannot divide the 4 shards of the run evenly: start 1 or 2 or 4" in ended.results
