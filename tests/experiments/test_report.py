import csv
import html.parser
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

import sagan.experiments.report
from sagan.core.shapes import ImageShape
from sagan.experiments.document import Code, Heading, Items, Paragraph, Picture, Table, to_html, to_markdown
from sagan.experiments.findings import Compared, ComparedArm, describe_method, findings, number, table_rows
from sagan.experiments.plots import Times, draw_times, is_readable, save_figure, stack_samples
from sagan.experiments.report import write_report
from sagan.experiments.results import Arm
from sagan.experiments.statistics import compare
from sagan.experiments.sweep import Sweep
from sagan.run.config import names_of, override, roles
from sagan.run.folder import Run
from sagan.run.plan import make_plan
from sagan.training.trainer import Trainer
from tests import records
from tests.experiments.made import BASE, begun, empty_figure, full_sweep, made_sweep, scored, with_samples

VOID = {"meta", "link", "img", "br"}


class Page(html.parser.HTMLParser):
    """Reads a page, refuses tags that are closed in another order than opened, and keeps what a reader gets."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.words = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(autouse=True)
def empty_figures(monkeypatch):
    """Reports have empty figures, which take no time to draw, but for the one of `reported`."""
    monkeypatch.setattr(sagan.experiments.report, "save_figure", empty_figure)


def compared(arm, base, metric="frechet", planned=(0, 1, 2), failed=(), rolled_back=(), axis="span"):
    arm, base = dict(enumerate(arm)), dict(enumerate(base))
    (comparison,) = compare([arm], base)
    one = ComparedArm(Arm(((axis, 3),)), arm, comparison, set(planned), set(failed), set(rolled_back))
    return Compared(metric, 40_000, Arm(((axis, 0),)), base, [one])


def rows_of(path):
    return list(csv.DictReader(path.open()))


# ---- sentences


def test_sentences_claim_no_more_than_the_data():
    base = [30.0, 32.0, 34.0]
    better, worse = [27.9, 29.2, 32.4], [32.1, 34.8, 35.6]
    # differences of 2.1, 2.8 and 1.6: their mean 2.17, their interval that less and more 4.303 * 0.603 / sqrt(3)
    assert findings(compared(better, base)) == [
        "span 3 is better than span 0 by 2.2 [0.7, 3.7] at 40,000 steps (3 paired seeds)"
    ]
    assert findings(compared(worse, base)) == [
        "span 3 is worse than span 0 by 2.2 [0.7, 3.7] at 40,000 steps (3 paired seeds)"
    ]
    assert findings(compared([29.0, 32.5, 33.6], base)) == [
        "no difference shown between span 3 and span 0: -0.3 [-2.2, 1.6] at 40,000 steps (3 paired seeds)"
    ]


def test_better_is_higher_where_it_is_and_nothing_where_neither_is():
    one, base = [0.9, 0.92, 0.88], [0.5, 0.51, 0.49]
    assert "span 3 is better than span 0 by 0.40" in findings(compared(one, base, "eye_colour_agreement"))[0]
    assert "span 3 is worse than span 0 by 0.40" in findings(compared(one, base, "kernel"))[0]
    assert "span 3 is higher than span 0 by 0.40" in findings(compared(one, base, "symmetry"))[0]


def test_sentences_about_few_seeds():
    (one,) = findings(compared([28.0], [30.0, 31.0], planned=(0, 1)))
    assert one == (
        "one pair of runs shows nothing about span 3 and span 0: their difference is -2.0 at 40,000 steps "
        "(1 paired seed; without seed 1, where a score is missing)"
    )
    assert findings(compared([], [30.0])) == [
        "span 3 cannot be compared with span 0: no seed has a score of both at 40,000 steps"
    ]


def test_pairs_that_all_differ_alike_are_no_measure_of_chance():
    (one,) = findings(compared([29.99, 30.99], [30.0, 31.0], planned=(0, 1)))
    assert one == (
        "nothing shown about span 3 and span 0: all pairs differ by the same -0.010, which gives no measure of chance, "
        "at 40,000 steps (2 paired seeds)"
    )
    (none,) = findings(compared([0.0] * 8, [0.0] * 8, "recall", planned=range(8)))
    assert none.startswith("nothing shown about span 3 and span 0: all pairs differ by the same 0")


def test_what_is_wrong_with_pairs_is_said_beside_them():
    (one,) = findings(compared([28.0, 27.0, 26.0], [30.0, 29.0, 28.5], planned=range(5), failed=(3,), rolled_back=(1,)))
    assert one.endswith(
        "(3 paired seeds; without seed 3, where a run failed; without seed 4, where a score is missing; in seed 1 the "
        "guard rolled a run back, which went on with other latents and images)"
    )


def test_pairs_share_what_they_are_said_to_share():
    same = compared([28.0, 27.0], [30.0, 29.0])
    assert "they share their initial weights, latents and order of images" in describe_method(same, asked=False)
    wider = compared([28.0, 27.0], [30.0, 29.0], axis="g_conv_dim")
    said = "they need not share their initial weights, latents and order of images where g_conv_dim differs"
    assert said in describe_method(wider, asked=False)


@pytest.mark.parametrize("name", sorted(name for name in names_of("computed") if roles()[name].pairs))
def test_runs_that_differ_in_this_begin_alike(name):
    others = {"span": 1, "g_span": 1, "d_span": 1, "masking": "before", "adv_loss": "rpgan", "augment": ("flip",)}
    others |= {
        "lr_schedule": "linear",
        "penalty_every": 2,
        "ema_halflife": 7,
        "pool": 2,
        "flip": True,
        "precision": "bf16",
        "shards": 2,
    }
    plain = override(BASE, {"span": 2})
    other = override(plain, {name: others.get(name, 0.5)})
    assert other != plain
    one, two = (Trainer(config, torch.device("cpu")) for config in (plain, other))
    for mine, its in ((one.generator, two.generator), (one.discriminator, two.discriminator)):
        torch.testing.assert_close(mine.state_dict(), its.state_dict(), rtol=0, atol=0)


def test_p_is_shown_only_where_it_could_be_small():
    three = compared([28.0, 29.5, 31.0], [30.0, 31.0, 32.0])
    assert "could show nothing with 3 pairs" in describe_method(three, asked=False)
    assert not any("p, sign flips" in cell for cell in table_rows(three)[0])
    eight = compared(range(8), [x + 1 + x / 9 for x in range(8)], planned=range(8))
    assert "exact for differences that are symmetric" in describe_method(eight, asked=False)
    assert table_rows(eight)[0][-2] == "p, sign flips"
    assert table_rows(eight)[2][-2:] == ["0.00781", "0.00781"]


def test_numbers_have_the_decimals_that_are_worth_showing():
    assert number(2.137, 1.7) == "2.1"
    assert number(2.137, 17) == "2"
    assert number(-0.001, 1.7) == "0.0"
    assert number(0.00234, 0.0004) == "0.00234"


# ---- the page


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """The report of a finished sweep in which span 1 is better, and the sentences it gives."""
    folder = tmp_path_factory.mktemp("sweeps") / "faces"
    full_sweep(folder, noise=0.5)
    return folder, *write_report(folder, folder / "report", threshold=22.0)


def test_the_page_needs_nothing_beside_it(reported):
    _, path, _ = reported
    page = Page(path.read_text())
    assert page.sources
    assert all(source.startswith("data:") for source in page.sources)
    assert not re.findall(r"""(?:src|href)=["']?https?:|url\(|@import|fetch\(""", path.read_text())


def test_the_page_says_what_was_found(reported):
    _, path, found = reported
    text = Page(path.read_text()).text
    assert re.fullmatch(r"span 1 is better than span 0 by .* at 400 steps \(3 paired seeds\)", found[0])
    assert found[1].startswith("no difference shown between span 3 and span 0: ")
    for said in (*found, "9 runs, 9 of them trained", "random-conv", "sagan train", "sagan sweep as in the tests"):
        assert said in text
    assert "What is missing" not in text
    assert "a query sees 61% of the keys" in text, "span 1 on the discriminator's 4x4 map"


def test_the_markdown_is_the_same_with_files_beside_it(reported):
    folder, _, found = reported
    text = (folder / "report" / "report.md").read_text()
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text)
    assert {"scores.svg", "scores-by-arm.svg", "scores-by-time.svg", "comparison.svg", "threshold.svg"} <= set(pictures)
    for name in pictures:
        file = folder / "report" / name
        assert file.stat().st_size > 0
        assert file.with_suffix(".png").is_file()
    assert all(sentence.replace("[", "\\[").replace("]", "\\]") in text for sentence in found)


def test_the_tables_hold_the_scores(reported):
    folder, _, _ = reported
    scores = rows_of(folder / "report" / "scores.csv")
    assert len(scores) == 9 * 4
    at_end = {(row["arm"], int(row["seed"])): float(row["value"]) for row in scores if row["step"] == "400"}
    assert {float(row["training_seconds"]) for row in scores} == {10, 20, 30, 40}
    base, one, _ = rows_of(folder / "report" / "comparison.csv")
    differences = [at_end["span 1", seed] - at_end["span 0", seed] for seed in (0, 1, 2)]
    assert float(one["difference"]) == pytest.approx(np.mean(differences))
    assert float(base["mean"]) == pytest.approx(np.mean([at_end["span 0", seed] for seed in (0, 1, 2)]))
    assert float(one["high"]) < 0


def test_times_to_the_threshold_are_counted_and_censored(reported):
    folder, _, _ = reported
    scores = rows_of(folder / "report" / "scores.csv")
    for row in rows_of(folder / "report" / "threshold.csv"):
        own = [each for each in scores if (each["arm"], each["seed"]) == (row["arm"], row["seed"])]
        under = [int(each["step"]) for each in own if float(each["value"]) <= 22]
        assert row["reached"] == str(bool(under))
        assert int(row["step"]) == (min(under) if under else 400)
        assert float(row["training_seconds"]) == int(row["step"]) / 10


def test_the_same_files_give_the_same_report(reported, tmp_path):
    folder, _, _ = reported
    pages = [write_report(folder, tmp_path / name)[0].read_bytes() for name in ("one", "other")]
    assert pages[0] == pages[1]
    for name in ("one", "other"):
        save_figure(draw_times([Times("span 0", {0: 300.0}, {1: 400.0})], "steps"), tmp_path / name / "figure")
    for name in ("figure.png", "figure.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_a_report_of_an_unfinished_sweep_says_what_is_missing(tmp_path):
    sweep = made_sweep(tmp_path / "sweep", span=(0, 1), seed=(0, 1))
    page, found = write_report(sweep.folder, tmp_path / "empty")
    assert found == ["Nothing has been scored yet, so nothing can be said."]
    assert "span1-seed1 has not begun" in Page(page.read_text()).text
    for name, last in (("span0-seed0", 400), ("span1-seed0", 200), ("span0-seed1", 200)):
        values = {100: 60.0, 200: 50.0, 400: 30.0}
        run = scored(begun(sweep, name, last), {step: value for step, value in values.items() if step <= last})
        with_samples(run, last)
    page, found = write_report(sweep.folder, tmp_path / "half", threshold=30)
    text = Page(page.read_text()).text
    assert found == [
        "one pair of runs shows nothing about span 1 and span 0: their difference is 0.000 at 200 steps "
        "(1 paired seed; without seed 1, where a score is missing)"
    ]
    assert "Time to 30" not in write_report(sweep.folder, tmp_path / "other")[0].read_text()  # it is not an FID
    for said in ("span1-seed1 has not begun", "span1-seed0 is at step 200 of 400", "> 200", "not scored"):
        assert said in text


def test_a_step_may_be_asked_for(tmp_path):
    full_sweep(tmp_path / "sweep", {0: 0.0, 1: -5.0})
    _, found = write_report(tmp_path / "sweep", tmp_path / "report", step=200)
    assert "at 200 steps" in found[0]
    with pytest.raises(ValueError, match="no run was scored at step 250, only at 100, 200, 300, 400"):
        write_report(tmp_path / "sweep", tmp_path / "report", step=250)


def test_a_collapse_is_told(tmp_path):
    sweep = made_sweep(tmp_path / "sweep", span=(0,), seed=(0,))
    begun(sweep, "span0-seed0").append(records.look(90, verdict="diverged", reason="sigma is 99"))
    page, _ = write_report(sweep.folder, tmp_path / "report")
    assert "span0-seed0 90 diverged sigma is 99" in Page(page.read_text()).text


def test_what_the_guard_did_not_see_is_not_called_healthy(tmp_path):
    sweep = made_sweep(tmp_path / "sweep", span=(0, 1, 3), seed=(0,))
    begun(sweep, "span0-seed0")
    begun(sweep, "span1-seed0").append(records.look(90))
    begun(sweep, "span3-seed0").append(records.stopped(90))
    text = Page(write_report(sweep.folder, tmp_path / "report")[0].read_text()).text
    assert "Never checked: span0-seed0, span3-seed0." in text
    assert "span3-seed0 failed: d_loss is nan" in text
    assert "span3-seed0 90 diverged d_loss is nan the run was stopped" in text
    assert "found nothing wrong" not in text


def test_one_arm_is_told_though_nothing_is_compared(tmp_path):
    full_sweep(tmp_path / "sweep", {0: 0.0})
    _, (one,) = write_report(tmp_path / "sweep", tmp_path / "report")
    assert one.startswith("There is one arm, span 0, so nothing is compared; its Fréchet distance (random-conv) at 400")
    assert re.search(r" steps is \d+\.\d ± \d\.\d over 3 seeds\.", one)


def test_scores_by_two_extractors_are_told_apart(tmp_path):
    sweep = full_sweep(tmp_path / "sweep", {0: 0.0, 1: -5.0})
    for place, planned in enumerate(sweep.plan.runs()):
        scored(
            Run(sweep.run_folder(planned)), {400: 9.0 + place}, label="FID", extractor="inception-2015-tf1", is_fid=True
        )
    _, found = write_report(tmp_path / "sweep", tmp_path / "report")
    assert [sentence.rsplit(", by ")[1] for sentence in found] == [
        "Fréchet distance (random-conv) of 100 samples",
        "FID of 100 samples",
    ]
    extractors = {row["extractor"] for row in rows_of(tmp_path / "report" / "scores.csv")}
    assert extractors == {"random-conv", "inception-2015-tf1"}


def test_a_report_leaves_nothing_of_an_earlier_one(tmp_path):
    sweep = full_sweep(tmp_path / "sweep", {0: 0.0, 1: -5.0})
    write_report(sweep.folder, tmp_path / "report", threshold=22)
    (tmp_path / "report" / "notes.txt").touch()
    assert list((tmp_path / "report").glob("threshold*"))
    write_report(sweep.folder, tmp_path / "report")
    assert not list((tmp_path / "report").glob("threshold*"))
    assert (tmp_path / "report" / "notes.txt").exists()


def test_few_samples_are_said_beside_what_was_found(tmp_path):
    sweep = full_sweep(tmp_path / "sweep", {0: 0.0, 1: -5.0})
    for planned in sweep.plan.runs():
        scored(Run(sweep.run_folder(planned)), {400: 9.0}, extractor="efficientnet-lite0", dim=1280, samples=1000)
    said = []
    page, _ = write_report(sweep.folder, tmp_path / "report", warn=said.append)
    (few,) = (sentence for sentence in said if "1,000 images for features of 1,280 numbers" in sentence)
    assert few in Page(page.read_text()).text


def test_a_threshold_that_nothing_can_come_to_is_refused(tmp_path):
    sweep = full_sweep(tmp_path / "sweep", {0: 0.0, 1: -5.0})
    with pytest.raises(ValueError, match="threshold must be a number, got nan"):
        write_report(sweep.folder, tmp_path / "report", threshold=math.nan)
    for planned in sweep.plan.runs():
        scored(Run(sweep.run_folder(planned)), {400: 9.0}, "nearest_distance")
    with pytest.raises(ValueError, match="of which more or less is better, got nearest_distance"):
        write_report(sweep.folder, tmp_path / "report", "nearest_distance", 3.0)


def test_the_commands_train_and_score_again_elsewhere(reported):
    _, path, _ = reported
    text = Page(path.read_text()).text
    assert "--run_dir again/span1-seed2" in text
    assert "&& sagan evaluate again/span1-seed2 --num 2000" in text


def test_published_figures_only_over_fids_of_their_images(tmp_path):
    base = override(BASE, {"dataset": "celeb", "imsize": 64, "total_step": 40_000})
    sweep = made_sweep(tmp_path / "sweep", base, span=(0, 3), seed=(0,))
    for name in ("span0-seed0", "span3-seed0"):
        scored(begun(sweep, name), {100: 70.0}, samples=64_000, reference_count=202_599)
    with pytest.raises(ValueError, match="FIDs by Inception, and these scores are by random-conv"):
        write_report(sweep.folder, tmp_path / "report", published=True)
    assert not (tmp_path / "report").exists()
    for name in ("span0-seed0", "span3-seed0"):
        run = sweep.run_folder(sweep.plan.run(name)) / "records.jsonl"
        fid = run.read_text().replace("random-conv", "inception-2015-tf1").replace("16x16", "64x64")
        fid = fid.replace('"resize": "none"', '"resize": "bilinear TF1 to 299"').replace(
            '"is_fid": false', '"is_fid": true'
        )
        run.write_text(fid)
    with pytest.raises(ValueError, match="begin at step 10,000, and the last score here is of step 100"):
        write_report(sweep.folder, tmp_path / "report", published=True)
    for name in ("span0-seed0", "span3-seed0"):
        run = sweep.run_folder(sweep.plan.run(name)) / "records.jsonl"
        run.write_text(run.read_text().replace('"step": 100', '"step": 40000'))
    page, _ = write_report(sweep.folder, tmp_path / "report", published=True)
    assert "no seed, no error bar" in Page(page.read_text()).text
    plain, _ = write_report(sweep.folder, tmp_path / "plain")
    assert "no seed, no error bar" not in Page(plain.read_text()).text


# ---- parts


def test_samples_of_the_same_z_are_in_one_column(tmp_path):
    sweep = made_sweep(tmp_path / "sweep", span=(0, 1), seed=(0,))
    grids = [with_samples(begun(sweep, f"span{span}-seed0"), 400, shade) for span, shade in ((0, 0), (1, 5))]
    picture = stack_samples(grids, ImageShape.square(16))
    assert picture.shape == (20 + 4 + 20, 146, 3)
    for column in range(8):
        left = 2 + 18 * column
        assert (picture[2:18, left : left + 16] == 10 + 10 * column).all()
        assert (picture[26:42, left : left + 16] == 15 + 10 * column).all()


def test_characters_that_mean_something_are_kept_as_text(tmp_path):
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "a.png")
    words = 'a < b & "c" *d* [e] | f'
    blocks = [Heading(words), Paragraph(words), Items([words]), Table([["head"], [words]]), Code([words])]
    page = Page(to_html(words, [*blocks, Picture("a.png", words, True)], tmp_path))
    assert page.text.count(words) == 8, "the title twice, and each block once"
    text = to_markdown("t", blocks)
    assert 'a \\< b & "c" \\*d\\* \\[e\\] \\| f |' in text
    assert f"```\n{words}\n```" in text


def test_a_report_names_no_folder_of_the_machine(tmp_path):
    images = tmp_path / "my photos"
    base = override(BASE, {"data": str(images), "prepared": str(tmp_path / "prepared")})
    command = f"sagan sweep --data '{images}' --sweep_dir {tmp_path}/sweep"
    sweep = Sweep.begin(tmp_path / "sweep", make_plan(base, {"span": (0, 1), "seed": (0,)}, (), command))
    sweep.write()
    scored(begun(sweep, "span0-seed0"), {100: 30.0})
    sweep.failure_file(sweep.plan.run("span1-seed0")).parent.mkdir()
    sweep.failure_file(sweep.plan.run("span1-seed0")).write_text(f"{images}/a b.png is torn; see {tmp_path}/runs/x.log")
    write_report(tmp_path / "sweep", tmp_path / "report")
    for path in (tmp_path / "report").iterdir():
        assert str(tmp_path) not in path.read_text(errors="replace"), path
    text = (tmp_path / "report" / "report.md").read_text()
    assert "sagan sweep --data 'my photos' --sweep_dir sweep" in text
    assert "is torn; see x.log" in text


def test_a_torn_grid_of_samples_is_left_out(tmp_path):
    sweep = made_sweep(tmp_path / "sweep", span=(0, 1), seed=(0,))
    grids = [with_samples(begun(sweep, f"span{span}-seed0"), 400, 0) for span in (0, 1)]
    whole = grids[1].read_bytes()
    for torn in (b"", whole[: len(whole) // 2], bytes(len(whole))):
        grids[1].write_bytes(torn)
        assert [is_readable(path) for path in grids] == [True, False]
