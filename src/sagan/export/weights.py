"""Export of weights alone: a safetensors file with the settings of its network, as `sagan.load` reads it."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from sagan.core.networks.folding import folded
from sagan.core.networks.interface import Generator
from sagan.export.check import Agreement, compare, plain_outputs
from sagan.export.subject import Subject
from sagan.run.build import build_discriminator
from sagan.run.config import to_dict, without_places
from sagan.run.weights import Snapshot, load_snapshot, save_snapshot
from sagan.system.files import write_whole


def export_weights(subject: Subject, path: Path, *, half: bool) -> tuple[Agreement, Counter[str]]:
    """Writes the folded weights. A generator's file is a snapshot, which every command takes that draws images.

    Returns how what is read from it agrees with the network, and its tensors by dtype. Raises UserError, and writes
    nothing, where it does not.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.safetensors")
        if isinstance(subject.network, Generator):
            about = (subject.config, subject.step, subject.images, subject.classes)
            save_snapshot(file, Snapshot(subject.network, *about), half=half, folded=True)
            read: Subject = Subject(load_snapshot(file).generator, *about[:2], file)
        else:
            file.write_bytes(_discriminator_bytes(subject, half))
            read = _read_discriminator(file, subject)
        agreement = compare(subject, plain_outputs(subject), plain_outputs(read))
        data = file.read_bytes()
    write_whole(path, lambda out: out.write(data))
    return agreement, Counter(str(each.dtype).removeprefix("torch.") for each in load_tensors(data).values())


def _discriminator_bytes(subject: Subject, half: bool) -> bytes:
    tensors = {name: each.half() if half else each for name, each in subject.network.state_dict().items()}
    facts = {"network": "discriminator", "config": to_dict(without_places(subject.config)), "step": subject.step}
    data: bytes = save_tensors(tensors, metadata={"sagan": json.dumps(facts)})
    return data


def _read_discriminator(file: Path, subject: Subject) -> Subject:
    network = folded(build_discriminator(subject.config.model))
    network.load_state_dict({name: each.float() for name, each in load_tensors(file.read_bytes()).items()})
    return Subject(network, subject.config, subject.step, file)
