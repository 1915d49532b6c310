"""The published program's command lines, as its users type them; with tiny networks where something is trained."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

import sagan.published.command
from benchmarks.plain import PlainDiscriminator, PlainGenerator
from sagan.cli.flags import flags_of
from sagan.published.command import PublishedFlags, config_of, main, parse
from sagan.run.folder import Run
from sagan.system.console import Console
from tests import records

CELEBA = "--batch_size 64 --imsize 64 --dataset celeb --adv_loss hinge --version sagan_celeb --total_step 100000"
LSUN = (
    "--batch_size 64 --imsize 64 --dataset lsun --adv_loss hinge --version sagan_lsun --total_step 100000 --span 1"
    " --log_path ./lsun_sparse_logs_1 --model_save_path ./lsun_sparse_models_1 --sample_path ./lsun_sparse_samples_1"
    " --attn_path ./lsun_sparse_attn_1 --num_workers 0"
)
TEST = "--train False --pretrained_model 996975 --batch_size 64 --imsize 64 --version sagan_celeb"
TINY = "--dataset celeb --adv_loss hinge --imsize 64 --batch_size 8 --g_conv_dim 8 --d_conv_dim 8 --version v"


def make_pictures(folder):
    pictures = folder / "data" / "CelebA" / "img_align_celeba" / "img_align_celeba"
    pictures.mkdir(parents=True)
    for number in range(8):
        Image.new("RGB", (178, 218), (30 * number, 90, 255 - 30 * number)).save(pictures / f"{number + 1:06d}.jpg")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_pictures(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which `main.py` has trained two steps with span 3."""
    folder = tmp_path_factory.mktemp("trained")
    make_pictures(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(f"{TINY} --total_step 2 --span 3 --log_step 1 --model_save_step 2") == 0
    return folder


@pytest.fixture
def again(trained, tmp_path, monkeypatch):
    """A copy of that folder."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder with ``500_G.pth`` and ``500_D.pth`` of the published program, span 2."""
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    torch.save(PlainGenerator(2).state_dict(), folder / "500_G.pth")
    torch.save(PlainDiscriminator(2).state_dict(), folder / "500_D.pth")
    return folder


def run(line):
    return main(line.split())


def refused(capsys, line):
    capsys.readouterr()
    assert run(line) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    return lines[-1]


def config(line):
    return config_of(parse(line.split()))


# ---- the lines of its description


@pytest.mark.parametrize("span", [0, 3])
def test_the_published_training_line_means_what_it_meant(span):
    published = config(f"{CELEBA} --span {span}")
    assert (published.data.dataset, published.data.image_path) == ("celeb", "./data")
    assert (published.model.imsize, published.model.span, published.model.z_dim) == (64, span, 128)
    assert (published.game.adv_loss, published.game.batch_size, published.game.n_critic) == ("hinge", 64, 1)
    assert (published.game.g_lr, published.game.d_lr, published.game.lr_decay) == (1e-4, 4e-4, None)
    assert (published.run.total_step, published.run.sample_step, published.run.snapshot_every) == (
        100_000,
        1000,
        10_000,
    )
    assert Path(published.run.run_dir) == Path(f"sparse_models_{span}/sagan_celeb")
    assert Path(published.run.sample_dir) == Path(f"sparse_samples_{span}/sagan_celeb")
    assert published.run.published_checkpoints


def test_the_published_lsun_line_names_its_folders():
    published = config(LSUN)
    assert (published.data.dataset, published.model.span) == ("lsun", 1)
    assert Path(published.run.run_dir) == Path("lsun_sparse_models_1/sagan_lsun")
    assert Path(published.run.sample_dir) == Path("lsun_sparse_samples_1/sagan_lsun")


def test_the_published_test_line_asks_for_its_checkpoint(home, capsys):
    said = refused(capsys, TEST)
    assert (
        said == "error: there is no checkpoint of step 996975 in sparse_models_0/sagan_celeb; there is none of any step"
    )


def test_the_published_defaults():
    plain = config("--dataset celeb")
    assert (plain.model.imsize, plain.game.adv_loss) == (32, "wgan-gp")
    assert Path(plain.run.run_dir) == Path("sparse_models_0/sagan_1")


def test_flags_that_did_nothing_do_something():
    useful = config("--dataset celeb --d_iters 5.0 --lr_decay 0.95 --use_tensorboard True")
    assert (useful.game.n_critic, useful.game.lr_decay, useful.run.tensorboard) == (5, 0.95, True)


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("--sp 2", "--span 2"),
        ("--n 0", "--num_workers 0"),
        ("--pr 5", "--pretrained_model 5"),
        ("--ver=a", "--version a"),
        ("--batch-size 8", "--batch_size 8"),
        ("--train false", "--train FALSE"),
        ("--z 5", "--z_dim 5"),
        ("--span 1 --span 2", "--span 2"),
    ],
)
def test_beginnings_of_published_flags_are_enough(short, long):
    assert parse(short.split()) == parse(long.split())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--batch_sise 64", "there is no flag --batch_sise: did you mean --batch_size?"),
        ("--zzz 64", "there is no flag --zzz."),
        ("--s 3", "--s could mean --sample_path or --sample_step or --span"),
        ("--see 3", "there is no flag --see"),
        ("--dataset cifar", "--dataset must be celeb or lsun, got 'cifar'"),
        ("--dataset celeb --parallel maybe", "--parallel must be true or false, got 'maybe'"),
        ("--dataset celeb --span x", "--span must be a whole number or self, got 'x'"),
        ("--dataset celeb --span", "--span needs a value: a whole number or self"),
        ("--dataset celeb 3", "`python main.py` has no place for '3'"),
        ("--dataset celeb --span -1", "span must be 0 or more, got -1"),
        ("--dataset celeb --imsize 50", "cannot be reached by doubling"),
        ("--dataset celeb --total_step 0", "total_step must be more than 0"),
        ("--dataset celeb --model qgan", "--model qgan was never part"),
        ("--dataset celeb --num 5", "--num counts the images that --train False draws"),
        ("", "--dataset must be celeb or lsun"),
        ("--dataset lsun", "the data set 'lsun' was not found"),
        ("--train False", "give its step, --pretrained_model N"),
        ("--dataset celeb --pretrained_model 5", "there is no 5_G.pth in sparse_models_0/sagan_1"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_nothing_is_made(home, capsys, line, said):
    assert said in refused(capsys, line)
    assert [path.name for path in home.iterdir()] == ["data"]


def test_the_help_has_a_text_for_every_flag(capsys):
    assert run("--help") == 0
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name in flags_of(PublishedFlags):
        after = out.split(f" --{name} ", 1)[1]
        assert not after.split(" (default", 1)[0].endswith(("INT", "FLOAT", "TEXT", "}")), name


def test_what_changes_nothing_is_answered_plainly(home, capsys, monkeypatch):
    monkeypatch.setattr(sagan.published.command, "start_run", lambda config, log: 0)
    assert run(f"{LSUN} --parallel True --g_num 5 --imsize 32") == 0
    out = capsys.readouterr().out
    for flag in ("--parallel", "--num_workers", "--g_num", "--attn_path", "--imsize"):
        assert f"{flag}: " in out


# ---- what it makes


def test_files_are_where_its_users_look(trained):
    models, samples = trained / "sparse_models_3" / "v", trained / "sparse_samples_3" / "v"
    assert sorted(path.name for path in models.glob("*.pth")) == ["2_D.pth", "2_G.pth"]
    assert Image.open(samples / "2_fake.png").size == (530, 68)
    line = (trained / "sparse_logs_3" / "v" / "log.txt").read_text().splitlines()[1]
    assert line.startswith("Elapsed [0:00:")
    assert "], G_step [2/2], D_step[2/2], d_out_real: " in line
    assert ",  ave_gamma_l3: " in line
    assert ", ave_gamma_l4: " in line


def test_spans_do_not_overwrite_each_other(again):
    before = {path: path.read_bytes() for path in again.glob("sparse_*_3/**/*") if path.is_file()}
    assert run(f"{TINY} --total_step 1 --span 0") == 0
    assert (again / "sparse_samples_0" / "v" / "1_fake.png").exists()
    assert {path: path.read_bytes() for path in again.glob("sparse_*_3/**/*") if path.is_file()} == before


def test_the_same_line_again_is_refused_with_the_way_to_go_on(again, capsys):
    said = refused(capsys, f"{TINY} --total_step 2 --span 3")
    assert "`sagan resume sparse_models_3/v` goes on with it" in said
    assert "another --version" in said


def test_it_goes_on_from_the_step_it_reached(again, capsys):
    assert "go on with --pretrained_model 2" in refused(capsys, f"{TINY} --span 3 --total_step 3 --pretrained_model 1")
    assert "adv_loss hinge (not wgan-gp)" in refused(
        capsys, f"{TINY} --span 3 --total_step 3 --pretrained_model 2 --adv_loss wgan-gp"
    )
    assert run(f"{TINY} --span 3 --total_step 3 --pretrained_model 2 --log_step 1") == 0
    assert [record.step for record in Run(again / "sparse_models_3" / "v").records()] == [1, 2, 3]


@pytest.mark.parametrize("span", ["", "--span 3"])
def test_test_mode_numbers_images_from_1_without_gaps(again, capsys, span):
    line = f"--train False --pretrained_model 2 --batch_size 3 --imsize 64 --version v --num 5 {span}"
    assert run(line) == 0
    names = {path.name for path in (again / "generated_dataset2").glob("*.png")}
    assert names == {f"{number}_fake.png" for number in range(1, 6)}
    assert Image.open(again / "generated_dataset2" / "1_fake.png").size == (64, 64)
    assert "is not empty" in refused(capsys, line)
    assert "there are steps 2" in refused(capsys, line.replace("model 2", "model 7"))


def test_test_mode_says_how_to_draw_fewer_and_what_to_do_with_earlier_ones(again, capsys, monkeypatch):
    monkeypatch.setattr(sagan.published.command, "write_samples", lambda *given, **named: None)
    line = "--train False --pretrained_model 2 --batch_size 3 --imsize 64 --version v"
    assert run(line) == 0
    assert (
        "drawing 3,000 images, as the published program does: --num N draws another number" in capsys.readouterr().out
    )
    (again / "generated_dataset2").mkdir()
    (again / "generated_dataset2" / "1_fake.png").touch()
    monkeypatch.setattr(sagan.published.command, "_trained_generator", None)  # it is not loaded for that
    assert "rename it, or delete it to draw anew" in refused(capsys, line)


@pytest.mark.parametrize(
    ("name", "typed"),
    [("imsize", "--imsize"), ("snapshot_every", "--model_save_step"), ("data", "sagan train --data"), ("num", "--num")],
)
def test_settings_are_spelt_as_the_published_program_or_else_sagan_takes_them(name, typed, capsys):
    sagan.published.command._PublishedConsole(command=True).say(f"give `{name}` N")
    assert capsys.readouterr().out == f"give {typed} N\n"


def test_test_mode_asks_for_the_span_where_there_are_several(again, capsys):
    shutil.copytree(again / "sparse_models_3", again / "sparse_models_1")
    assert "give --span" in refused(capsys, "--train False --pretrained_model 2 --version v --num 1")


# ---- the published program's checkpoints


def place(published, home, span=2):
    folder = home / f"sparse_models_{span}" / "old"
    shutil.copytree(published, folder)
    return folder


def test_a_published_pair_is_drawn_from(published, home, capsys):
    place(published, home, 0)
    assert run("--train False --pretrained_model 500 --version old --num 2") == 0
    assert "does not tell the span" in capsys.readouterr().err
    assert len(list((home / "generated_dataset500").glob("*.png"))) == 2


def test_a_published_pair_is_gone_on_from_with_its_own_meaning_of_the_mask(published, home, monkeypatch):
    folder, seen = place(published, home), []
    monkeypatch.setattr(
        sagan.published.command, "resume_run", lambda folder, changes, log: seen.append((folder, changes)) or 0
    )
    line = "--dataset celeb --version old --span 2 --imsize 64 --adv_loss hinge --batch_size 4 --total_step 501"
    assert run(f"{line} --pretrained_model 500") == 0
    kept = Run.open(folder).config()
    assert (kept.model.masking, kept.game.batch_size, kept.run.total_step) == ("before", 4, 501)
    assert "masking" not in seen[0][1]
    assert (folder / "500_G.pth").read_bytes() == (published / "500_G.pth").read_bytes()


def test_published_checkpoints_are_not_written_over(published, home, capsys):
    folder = place(published, home)
    said = refused(capsys, "--dataset celeb --version old --span 2 --imsize 64 --batch_size 4")
    assert "step 500, which training would overwrite" in said
    assert "--pretrained_model 500" in said
    assert sorted(path.name for path in folder.iterdir()) == ["500_D.pth", "500_G.pth"]


def test_the_log_line_is_the_published_one(tmp_path):
    gamma = {"G16": -0.0002, "G32": 0.0002, "D4": 1.0}
    record = records.train(2, seconds=8.497799, d_loss_real=1.0625, gamma=gamma)
    line = sagan.published.command.PublishedLog(tmp_path / "log.txt", 6).line(record)
    assert line == (
        "Elapsed [0:00:08.497799], G_step [2/6], D_step[2/6], d_out_real: 1.0625,  ave_gamma_l3: -0.0002, "
        "ave_gamma_l4: 0.0002"
    )
    assert isinstance(sagan.published.command.PublishedLog(tmp_path / "log.txt", 6), Console)
