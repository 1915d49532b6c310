"""What is wrong with settings of a run that were given together, each of them right by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sagan.run.config import Config, idle_settings
from sagan.system.errors import UserError


def check_image_path(given: Mapping[str, Any]) -> None:
    """Raises UserError for a setting that would be without effect, and something else trained on than was meant."""
    if "image_path" in given and given.get("dataset") is None:
        raise UserError(
            "--image_path says where a --dataset is: give --dataset celeb or --dataset lsun with it, "
            f"or, for images of your own, --data {given['image_path']}"
        )


def without_effect(given: Mapping[str, Any], config: Config) -> list[str]:
    """A sentence for each flag that was given and changes nothing."""
    return [f"--{name} changes nothing: {why}" for name, why in idle_settings(config).items() if name in given]


def at_odds(given: Mapping[str, Any], config: Config) -> list[str]:
    """A sentence for what was asked for and goes badly with what the preset adds to it."""
    game, said = config.game, []
    if game.adv_loss == "wgan-gp" and (game.r1 != 0 or game.r2 != 0) and not {"r1", "r2"} & set(given):
        said.append("wgan-gp has a gradient penalty of its own, and the preset adds another: --r1 0 for the loss alone")
    if game.adv_loss == "wgan-gp" and game.penalty_every > 1 and "penalty_every" not in given:
        every = f"one step in {game.penalty_every}"
        said.append(
            f"the preset takes wgan-gp's gradient penalty in {every}: --penalty_every 1 for every step, as usual"
        )
    return said
