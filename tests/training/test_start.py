import os
import signal
from pathlib import Path

import pytest
import torch
from PIL import Image

import sagan.training.loop as loop
from sagan.run.config import Config, DataConfig, GameConfig, ModelConfig, RunConfig, override
from sagan.run.folder import Run
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.training.start import advice_for_few, resume_run, settle, start_run, usable_device
from tests.training.conftest import TINY


@pytest.fixture
def config(workshop, tmp_path, monkeypatch):
    """The tiny config on the workshop's images, in a folder of a person's own."""
    monkeypatch.chdir(tmp_path)
    return override(TINY, {"data": "images0.npy", "total_step": 2})


def start(config, **changes):
    return start_run(override(config, changes), Console(quiet=True))


def test_runs_are_named_by_what_they_are_and_never_overwritten(config, tmp_path):
    for changes in ({}, {}, {"span": 3}):
        assert start(config, **changes) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "images0-16px-span1",
        "images0-16px-span1-2",
        "images0-16px-span3",
    ]


def test_the_folder_named_is_used_also_when_it_is_there_and_empty(config, tmp_path):
    (tmp_path / "mine").mkdir()
    assert start(config, run_dir="mine") == 0
    assert Run.open(tmp_path / "mine").records()


def test_an_empty_folder_that_was_there_stays_when_a_run_cannot_begin(config, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match="does not exist"):
        start(config, run_dir="mine", data="nowhere")
    assert not list((tmp_path / "mine").iterdir())


def test_what_stands_in_the_folder_means_the_same_from_anywhere(config, tmp_path):
    start(config, run_dir="mine", sample_dir="grids")
    data = Run(tmp_path / "mine").config().data
    assert data.data == str(tmp_path / "images0.npy")
    assert data.prepared == str(tmp_path / "prepared")
    assert (tmp_path / "grids" / "2_fake.png").exists()


def test_changes_are_kept_in_the_config(config, tmp_path):
    start(config, run_dir="mine")
    resume_run(tmp_path / "mine", {"total_step": 3}, Console(quiet=True))
    assert Run(tmp_path / "mine").config().run.total_step == 3


def test_a_data_sets_run_is_told_its_new_place_by_image_path(tmp_path):
    run = Run.create(tmp_path / "run", Config(DataConfig(dataset="celeb"), ModelConfig(imsize=16), run=RunConfig()))
    with pytest.raises(ValueError, match="image_path says where it is now"):
        resume_run(run.folder, {"data": "photos"}, Console(quiet=True))


def test_the_end_of_a_run_says_what_to_do_next(config, tmp_path, capsys):
    start_run(override(config, {"run_dir": "mine", "span": 7}), Console())
    out = capsys.readouterr().out
    assert "discriminator 4x4: span 7, a query sees 0% of the keys" in out
    assert "sagan sample mine" in out
    assert out.splitlines()[-1] == "samples: mine/samples/2_fake.png"


def test_the_folder_of_images_is_walked_once_also_when_a_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(8):
        path = tmp_path / "photos" / "deep" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number, 0, 0)).save(path)
    scandir, walked = os.scandir, []

    def counting(folder):
        walked.append(Path(folder).name)
        return scandir(folder)

    monkeypatch.setattr("os.scandir", counting)
    start(TINY, data="photos", run_dir="mine", total_step=1)
    assert [walked.count(name) for name in ("photos", "deep")] == [1, 1]
    resume_run(tmp_path / "mine", {"total_step": 2}, Console(quiet=True))
    assert [walked.count(name) for name in ("photos", "deep")] == [2, 2]


def test_a_run_whose_images_have_moved_is_told_the_flag(config, tmp_path):
    start(config, run_dir="mine")
    (tmp_path / "images0.npy").rename(tmp_path / "elsewhere.npy")
    with pytest.raises(ValueError, match="does not exist") as caught:
        resume_run(tmp_path / "mine", {"total_step": 3}, Console(quiet=True))
    assert caught.value.__notes__ == ["if the run's images have moved, give `data` FOLDER, where they are now"]
    resume_run(tmp_path / "mine", {"total_step": 3, "data": "elsewhere.npy"}, Console(quiet=True))


@pytest.mark.parametrize(("instructions", "warned"), [("AVX2", True), ("AVX512", False)])
def test_bf16_on_a_processor_without_it_is_warned_of(config, monkeypatch, capsys, instructions, warned):
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: instructions)
    for precision in ("bf16", "fp32"):
        start_run(override(config, {"precision": precision, "device": "cpu"}), Console())
        said = "no bfloat16 products" in "".join(capsys.readouterr())
        assert said == (warned and precision == "bf16")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "auto"])
def test_precision_is_decided_once(precision):
    settled = settle(override(Config(), {"precision": precision}), torch.device("cpu"))
    assert settled.run.precision == {"auto": "fp32"}.get(precision, precision)
    assert settle(settled, torch.device("cpu")) == settled


def test_cuda_graphs_are_refused_where_there_are_none():
    assert usable_device(RunConfig(device="cpu")) == torch.device("cpu")
    with pytest.raises(ValueError, match="cuda_graphs needs a CUDA device, and this run's is cpu"):
        usable_device(RunConfig(device="cpu", cuda_graphs=True))


def test_the_same_command_again_says_which_run_is_not_finished(config, capsys):
    start(config)
    start_run(config, Console())
    assert "not finished" not in capsys.readouterr().out
    resume_run(Path("runs/images0-16px-span1"), {"total_step": 3}, Console(quiet=True))
    Path("runs/images0-16px-span1/snapshots/00000003.safetensors").unlink()  # as a run that was stopped before it
    start_run(config, Console())
    expected = "runs/images0-16px-span1 is not finished: `sagan resume runs/images0-16px-span1` continues it"
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize("presses", [1, 2])
def test_a_run_that_is_stopped_before_its_first_step_leaves_nothing(config, tmp_path, monkeypatch, presses, capsys):
    catch_up = loop._Loop._catch_up

    def interrupted(self, stopped):
        for _ in range(presses):
            signal.raise_signal(signal.SIGINT)
        return catch_up(self, stopped)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Loop, "_catch_up", interrupted)
        if presses == 1:
            assert start_run(override(config, {"tensorboard": True}), Console()) == 130
            assert "nothing is kept; the same command starts again" in capsys.readouterr().out
        else:
            with pytest.raises(KeyboardInterrupt) as caught:
                start(config)
            assert "nothing is kept" in caught.value.__notes__[0]
    assert not (tmp_path / "runs").exists()
    assert start(config) == 0


def test_few_images_are_met_with_what_is_lacking():
    assert advice_for_few(GameConfig(), 128).startswith(
        "few images (128): `--augment color translation cutout --flip` keeps"
    )
    assert "`--augment color translation cutout`" in advice_for_few(GameConfig(flip=True), 128)
    assert advice_for_few(GameConfig(flip=True, augment=("color",)), 128) == ""
    assert advice_for_few(GameConfig(), 50_000) == ""


def test_a_run_with_other_settings_than_its_checkpoint_is_refused_before_images_are_prepared(config, tmp_path):
    start(config, run_dir="mine")
    run = Run(tmp_path / "mine")
    run.write_config(override(run.config(), {"imsize": 1024}))
    before = sorted((tmp_path / "prepared").rglob("*"))
    with pytest.raises(ValueError, match=r"was trained with imsize 16 \(not 1024\)"):
        resume_run(run.folder, {"total_step": 3}, Console(quiet=True))
    assert sorted((tmp_path / "prepared").rglob("*")) == before


def test_networks_too_large_for_this_machine_are_one_sentence_and_leave_nothing(config, tmp_path):
    with pytest.raises(ValueError, match="^this machine has too little memory for this run: give a smaller"):
        start(config, imsize=64, z_dim=65_536, g_conv_dim=16_384)  # more than any machine can address
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried"), RuntimeError("?")]
)
def test_too_little_memory_is_known_in_every_form_and_a_bug_is_none(config, tmp_path, monkeypatch, error):
    start(config, run_dir="old")

    def fail(*arguments):
        raise error

    monkeypatch.setattr("sagan.training.loop.Trainer", fail)
    expected = RuntimeError if str(error) == "?" else UserError
    (tmp_path / "new").mkdir()
    with pytest.raises(expected):
        start(config, run_dir="new")
    assert (tmp_path / "new" / "config.json").exists() == (expected is RuntimeError)
    with pytest.raises(expected):
        resume_run(tmp_path / "old", {"total_step": 3}, Console(quiet=True))
    assert Run(tmp_path / "old").checkpoint_file.exists()


def test_a_resumed_run_is_not_said_to_be_elsewhere(config, tmp_path):
    start(config, run_dir="mine", total_step=1)
    before = Run(tmp_path / "mine").config_file.read_bytes()
    for change in ({"run_dir": "elsewhere"}, {"run_dir": None}, {"dataset": "celeb"}):
        with pytest.raises(ValueError, match=f"{next(iter(change))} cannot be"):
            resume_run(Path("mine"), {"total_step": 2, **change}, Console(quiet=True))
    assert Run(tmp_path / "mine").config_file.read_bytes() == before
    resume_run(Path("mine"), {"total_step": 2, "run_dir": str(tmp_path / "mine"), "dataset": None}, Console(quiet=True))
    assert Run(tmp_path / "mine").is_finished()
