"""Whole records, of which a test names only what matters to it."""

import dataclasses

from sagan.run.card import Card
from sagan.run.records import LookRecord, RollbackRecord, ScoreRecord, StoppedRecord, TrainRecord

CARD = Card(
    extractor="random-conv", weights_sha256=None, resize="none", samples=100, image_size="16x16",
    reference="pixels:00", reference_count=120, reference_samples=120, reference_split="all", covariance="n - 1",
    source="averaged generator, eval mode", seed=0, repeats=1, versions={"sagan": "0.1.0"}, commit=None,
    is_fid=False, dim=64,
)  # fmt: skip


def train(step, **changes):
    """A record of a healthy run with steps of 0.1 seconds and batches of 8."""
    record = TrainRecord(
        step=step, images=8 * step, d_loss=1.5, d_loss_real=0.7, d_real=0.5, d_fake=-0.5, g_loss=-0.25,
        gamma={"G16": 0.125, "D4": -0.5}, verdict="healthy", images_per_second=80.0, seconds=step / 10,
    )  # fmt: skip
    return dataclasses.replace(record, **changes)


def look(step, **changes):
    """The guard's look at a healthy run."""
    record = LookRecord(
        step=step, images=64, pairs=64**2, separation=0.9, gap=1.0, real_positive=0.7, fake_positive=0.3,
        pixel_spread=0.8, feature_spread=0.9, nearest=0.9, sigma=1.5, gamma=0.2, average_distance=0.1,
        g_grad_norm=5.0, d_grad_norm=1.0,
    )  # fmt: skip
    return dataclasses.replace(record, **changes)


def score(step, value, metric="frechet", *, label="FID", **card_changes):
    return ScoreRecord(
        metric=metric, label=label, step=step, value=value, floor=4.0, floor_samples=60, seconds=1.0,
        card=dataclasses.replace(CARD, **card_changes),
    )  # fmt: skip


def rollback(step, from_step, **changes):
    record = RollbackRecord(
        step=step, from_step=from_step, attempt=1, verdict="diverged", reason="d_loss is nan",
        remedy={"g_lr": 0.5, "d_lr": 0.5},
    )  # fmt: skip
    return dataclasses.replace(record, **changes)


def stopped(step, **changes):
    return dataclasses.replace(StoppedRecord(step=step, verdict="diverged", reason="d_loss is nan"), **changes)
