"""A stranger's run or sweep that goes on: it runs no code and writes nothing outside of its folder, unless a person
names that again."""

import json
import shutil

import numpy as np
import pytest
import torch

from sagan import api
from sagan.cli import main
from sagan.run.config import override
from sagan.run.folder import Run
from sagan.run.plan import make_plan, read_plan, write_plan
from sagan.run.presets import PRESETS
from sagan.run.trust import images_folder, refuse_unnamed
from sagan.system.files import refuse_links_out
from tests.cli.made import refused, tiny


class Evil(torch.nn.Module):
    """TorchScript, which whoever loads it may run."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().mean((2, 3))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attacks")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        np.save("photos.npy", np.random.default_rng(0).integers(0, 256, (64, 20, 16, 3)).astype(np.uint8))
        assert main(tiny(data="photos.npy", total_step=2, device="cpu", run_dir="run")) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A run as a stranger sends it, made in another working folder, and an empty folder ``outside`` beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outside").mkdir()
    return Run(shutil.copytree(trained / "run", tmp_path / "run"))


def changed(run, **settings):
    run.write_config(override(run.config(), settings))
    return run


@pytest.fixture
def loaded(monkeypatch):
    """The TorchScript files that were loaded, instead of loading them."""
    seen = []
    monkeypatch.setattr(torch.jit, "load", lambda path, **options: seen.append(path) or Evil())
    return seen


@pytest.mark.parametrize("extractor", ["torchscript:evil.pt", "timm:hf-hub:stranger/net", "timm:local-dir:evil"])
def test_an_extractor_that_runs_code_is_named_again(run, loaded, capsys, extractor):
    changed(run, extractor=extractor, eval_every=1, eval_num=25)
    assert f"name it again with `--extractor {extractor}`".replace("`", "") in refused(capsys, "resume", run.folder)
    with pytest.raises(ValueError, match="may run any code"):
        api.resume(run.folder, quiet=True)
    assert loaded == []


def test_an_extractor_that_a_person_names_is_used(run):
    changed(run, extractor="torchscript:evil.pt", eval_every=1, eval_num=25)
    assert main(["resume", str(run.folder), "--extractor", "random-conv", "--total_step", "3"]) == 0
    refuse_unnamed(run.config(), run.folder, {"extractor"})


@pytest.mark.parametrize("name", ["sample_dir", "prepared"])
def test_a_folder_outside_is_named_again(run, trained, capsys, name):
    outside = run.folder.parent / "outside"
    changed(run, **{name: str(outside)})
    said = refused(capsys, "resume", run.folder, "--total_step", 3)
    assert f"name it again with --{name} {outside}" in said
    assert not list(outside.iterdir())
    assert main(["resume", str(run.folder), "--total_step", "3", f"--{name}", str(outside)]) == 0
    assert list(outside.iterdir())
    assert main(["resume", str(run.folder), "--total_step", "4", "--sample_dir", str(run.folder / "mine")]) == 0


def test_scores_keep_no_images_outside_either(run, capsys):
    changed(run, prepared=str(run.folder.parent / "outside"))
    scoring = ["evaluate", str(run.folder), "--extractor", "random-conv", "--num", "25"]
    assert "keep prepared images in" in refused(capsys, *scoring)
    with pytest.raises(ValueError, match="keep prepared images in"):
        api.evaluate(run.folder, extractor="random-conv", num=25, quiet=True)
    assert main([*scoring, "--prepared", "here"]) == 0
    assert not list((run.folder.parent / "outside").iterdir())


def test_the_usual_folders_for_images_are_not_asked_for(run, trained):
    own = run.config()
    assert images_folder(own, run.folder) == trained / "prepared", "there are prepared images already"
    for usual in ("./prepared", str(run.folder / "images")):
        refuse_unnamed(override(own, {"prepared": usual}), run.folder, ())
    begun = run.folder.parent / "begun"
    (begun / "photos-16.partial").mkdir(parents=True)
    (begun / "photos-16.partial" / "journal.jsonl").touch()
    refuse_unnamed(override(own, {"prepared": str(begun)}), run.folder, ())
    for other in (".", "prepared/../run/..", str(run.folder.parent / "prepared2"), "~"):
        with pytest.raises(ValueError, match="keep prepared images in"):
            refuse_unnamed(override(own, {"prepared": other}), run.folder, ())


@pytest.mark.parametrize("place", ["tensorboard", "samples", "snapshots", "checkpoints", "evaluation", "attempt-1/x"])
def test_a_link_that_leads_out_of_a_run_is_refused(run, capsys, place):
    link, outside = run.folder / place, run.folder.parent / "outside"
    link.parent.mkdir(exist_ok=True)
    if link.exists():
        shutil.rmtree(link)
    link.symlink_to(outside)
    for words in (["resume", run.folder, "--total_step", 3], ["evaluate", run.folder, "--num", 25]):
        if place not in ("snapshots", "checkpoints") or words[0] == "resume":
            assert f"{link} is a link to {outside}" in refused(capsys, *words)
    assert not list(outside.iterdir())


@pytest.mark.parametrize("name", ["records.jsonl", "records.lock", "running.lock", ".config.json.partial"])
def test_a_link_to_a_file_outside_is_refused_and_the_file_stays(run, capsys, name):
    precious = run.folder.parent / "precious"
    precious.write_text("precious")
    (run.folder / name).unlink(missing_ok=True)
    (run.folder / name).symlink_to(precious)
    assert f"is a link to {precious}" in refused(capsys, "resume", run.folder, "--total_step", 3)
    assert precious.read_text() == "precious"


def test_links_within_a_folder_and_the_folder_as_a_link_are_fine(run):
    (run.folder / "newest").symlink_to("snapshots")
    (run.folder.parent / "link").symlink_to(run.folder)
    refuse_links_out(run.folder.parent / "link")
    refuse_links_out(run.folder.parent / "nowhere")


def test_links_are_found_on_every_level(tmp_path):
    deep = tmp_path / "a" / "b" / "c" / "d"
    deep.mkdir(parents=True)
    (deep / "loop").symlink_to("loop")
    refuse_links_out(tmp_path)
    (deep / "link").symlink_to("/")
    with pytest.raises(ValueError, match="is a link to /, where"):
        refuse_links_out(tmp_path)
    refuse_links_out(tmp_path, levels=2)


# ---- sweeps


@pytest.fixture
def sweep(trained, tmp_path, monkeypatch):
    """A planned sweep of one run, whose commands are collected instead of being called."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outside").mkdir()
    settings = {"data": str(trained / "photos.npy"), "prepared": str(trained / "prepared"), "extractor": "random-conv"}
    base = override(Run(trained / "run").config(), {**settings, "run_dir": None})
    write_plan(make_plan(base, {"span": [0], "seed": [0]}), tmp_path / "S" / "plan.json", tmp_path / "S" / "runs")
    return tmp_path / "S"


def with_base(folder, **settings):
    """Changes the file of the plan as a stranger may."""
    values = json.loads((folder / "plan.json").read_text())
    for section in ("data", "run"):
        values["base"][section].update({name: v for name, v in settings.items() if name in values["base"][section]})
    (folder / "plan.json").write_text(json.dumps(values))


@pytest.mark.parametrize("show", ["--print_commands", "--dry_run", "--score"])
def test_a_sweep_names_again_what_runs_code_or_writes_outside(sweep, loaded, capsys, show):
    with_base(sweep, extractor="torchscript:evil.pt")
    assert "may run any code" in refused(capsys, "sweep", "--sweep_dir", sweep, show)
    outside = sweep.parent / "outside"
    with_base(sweep, extractor="random-conv", prepared=str(outside))
    assert "keep prepared images in" in refused(capsys, "sweep", "--sweep_dir", sweep, show)
    with_base(sweep, sample_dir=str(outside))
    assert "sample_dir is for one run" in refused(capsys, "sweep", "--sweep_dir", sweep, show)
    assert loaded == []
    assert not list(outside.iterdir())


def test_a_sweep_goes_on_with_what_a_person_named(sweep, capsys):
    with_base(sweep, extractor="torchscript:evil.pt", prepared=str(sweep.parent / "outside"))
    words = ["sweep", "--sweep_dir", str(sweep), "--prepared", str(sweep.parent / "mine"), "--extractor", "random-conv"]
    (sweep / "plan.json").write_text((sweep / "plan.json").read_text())
    assert "holds another sweep, with extractor torchscript:evil.pt (not random-conv)" in refused(capsys, *words)
    with_base(sweep, extractor="random-conv")
    assert main([*words, "--print_commands"]) == 0
    assert f"--prepared {sweep.parent / 'mine'}" in capsys.readouterr().out


def test_the_runs_of_a_sweep_are_resumed_with_the_places_of_its_plan(sweep, trained, capsys):
    (name,) = [run.name for run in read_plan(sweep / "plan.json").runs()]
    changed(Run(shutil.copytree(trained / "run", sweep / "runs" / name)), prepared="/outside", total_step=9)
    assert main(["sweep", "--sweep_dir", str(sweep), "--print_commands"]) == 0
    assert f"sagan resume {sweep / 'runs' / name} --prepared {trained / 'prepared'} &&" in capsys.readouterr().out


@pytest.mark.parametrize("axis", ["/../../x", "../x", "no_such", "run_dir", "sample_dir", "span\n", "\x1b[2J"])
def test_an_axis_that_is_no_setting_is_refused(sweep, capsys, axis):
    values = json.loads((sweep / "plan.json").read_text())
    values["axes"] = {axis: ["a", "b"], **values["axes"]}
    (sweep / "plan.json").write_text(json.dumps(values))
    said = refused(capsys, "sweep", "--sweep_dir", sweep)
    assert "is not a setting that a sweep can vary" in said
    assert said.isprintable()
    assert {path.name for path in sweep.parent.iterdir()} == {"S", "outside"}


@pytest.mark.parametrize("value", ["../../x", "/etc/passwd", "..", "a/../../b", "\x1b[2J\n", "."])
def test_the_name_of_a_run_is_one_folder_whatever_its_values(value):
    plan = make_plan(PRESETS["quick"], {"data": [value, "faces"], "extractor": [value, "random-conv"]})
    for run in plan.runs():
        assert run.name.isprintable()
        assert "/" not in run.name
        assert run.name.startswith("data")


@pytest.mark.parametrize("place", ["runs", "logs", "logs/span0-seed0.log", "runs/span0-seed0", "report"])
def test_a_link_that_leads_out_of_a_sweep_is_refused(sweep, capsys, place):
    (sweep / place).parent.mkdir(exist_ok=True)
    (sweep / place).symlink_to(sweep.parent / "outside")
    assert "is a link to" in refused(capsys, "sweep", "--sweep_dir", sweep)
    assert "is a link to" in refused(capsys, "report", sweep)
    assert not list((sweep.parent / "outside").iterdir())
