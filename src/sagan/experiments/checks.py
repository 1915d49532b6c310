"""Checks of a sweep's runs before the first of them begins."""

from __future__ import annotations

from collections.abc import Container, Iterable
from pathlib import Path

from sagan.core.shapes import refuse_other_than_rgb
from sagan.data import choose_source, prepared_store
from sagan.data.batches import check_count
from sagan.data.choice import outputs_inside
from sagan.evaluation.extractors.table import load_extractor
from sagan.evaluation.scoring import refuse_few
from sagan.run.config import AnyChannels, Config, DataConfig, override
from sagan.run.plan import Plan
from sagan.run.trust import refuse_unnamed
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.system.files import refuse_links_out
from sagan.training.checks import check_run, check_shards


def check_runs(plan: Plan, folder: Path, gpus: int = 1) -> None:
    """Raises UserError where a run of a sweep in ``folder``, with ``gpus`` each, could not begin, as `check_run` does,
    and where what is to score it while it is trained is missing."""
    for config in {override(config, {"seed": 0}) for config in _configs(plan)}:
        check_run(config, folder)
        check_shards(config, max(1, gpus))
        if config.run.eval_every is not None:
            refuse_few("eval_num", config.run.eval_num)
            load_extractor(config.run.extractor)


def refuse_stranger(plan: Plan, folder: Path, named: Container[str]) -> None:
    """Raises UserError for what the plan of a sweep in ``folder`` may not do unless a person has ``named`` it, and for
    links that lead out of the folder: see `sagan.run.trust`. Each run does so for its own folder."""
    refuse_links_out(folder, levels=2)
    for config in {(c.run.extractor, c.data.prepared): c for c in _configs(plan)}.values():
        refuse_unnamed(config, folder, named)


def check_images(configs: Iterable[Config]) -> None:
    """Raises UserError where the images of runs are not found, or are fewer than in a batch."""
    largest: dict[tuple[DataConfig, int | str, AnyChannels], int] = {}
    for config in configs:
        key = config.data, config.model.imsize, config.model.channels
        largest[key] = max(config.game.batch_size, largest.get(key, 0))
    for (data, size, channels), batch_size in largest.items():
        check_count(len(choose_source(data, size, channels)), batch_size)


def extractor_name(plan: Plan) -> str:
    """The name on cards of the extractor that scores the runs. Raises UserError where it cannot, and for several."""
    names = set()
    for extractor, samples in {(config.run.extractor, config.run.eval_num) for config in _configs(plan)}:
        refuse_few("eval_num", samples)
        names.add(load_extractor(extractor).name)
    if len(names) > 1:
        raise UserError(f"the runs would be scored by {' and '.join(sorted(names))}, which cannot be compared")
    return names.pop()


def prepare_images(configs: Iterable[Config], folder: Path, console: Console) -> None:
    """Decodes the images of the runs of a sweep in ``folder``, each data set once. Raises UserError for images that
    cannot be scored."""
    kinds = dict.fromkeys((config.data, config.model.imsize, config.model.channels) for config in configs)
    for data, size, channels in kinds:
        if data.data is not None and (sentence := outputs_inside(Path(data.data), [folder])):
            console.say(sentence)
        store = prepared_store(data, size, console, channels=channels)
        refuse_other_than_rgb(store.shape, "scoring the runs of a sweep")


def _configs(plan: Plan) -> list[Config]:
    return [plan.config(run, Path()) for run in plan.runs()]
