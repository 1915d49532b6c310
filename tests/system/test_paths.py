from pathlib import Path

import pytest

from sagan.system.paths import command_without_paths, last_name, without_paths


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("/home/me/photos", "photos"),
        ("~/photos/", "photos"),
        ("~me/photos", "photos"),
        (r"C:\Users\me\photos", "photos"),
        (r"\\server\share\photos", "photos"),
        ("photos/cats", "photos/cats"),
        ("faces", "faces"),
        ("/", "."),
    ],
)
def test_a_path_is_cut_to_its_last_part(text, short):
    assert last_name(text) == short


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("/home/me/a.png is torn", "a.png is torn"),
        ("it is in /home/me/runs/a: try again", "it is in a: try again"),
        ("see `sagan resume /home/me/runs/a`", "see `sagan resume a`"),
        (
            "'/home/me/my photos' holds 3/4 of https://example.org/a/b",
            "'my photos' holds 3/4 of https://example.org/a/b",
        ),
        ("(/srv/x/y.npy) and (~/z)", "(y.npy) and (z)"),
        ("photos/a.png and 1,500/3,000 at 5 img/s", "photos/a.png and 1,500/3,000 at 5 img/s"),
    ],
)
def test_a_sentence_names_no_folder_of_the_machine(text, short):
    assert without_paths(text) == short


def test_a_known_folder_may_have_spaces():
    text = "log: /home/me/my sweeps/one/logs/a.log"
    assert without_paths(text, [Path("/home/me/my sweeps/one")]) == "log: one/logs/a.log"


def test_a_command_stays_one():
    command = "sagan sweep --data '/home/me/my photos' --sweep_dir=/tmp/s --span 0 1 --prepared ./prepared"
    assert command_without_paths(command) == (
        "sagan sweep --data 'my photos' --sweep_dir=s --span 0 1 --prepared ./prepared"
    )
    assert command_without_paths("it's /tmp/x") == "it's x"


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("/home/me/a(1)/b.png is torn", "b.png is torn"),
        ("run:/home/me/x and file:///home/me/y", "run:x and y"),
        ("reading /home/me/my photos/a.png", "reading a.png"),
        ("moved /home/me/a to /home/me/b", "moved a to b"),
        ("5 files under ../../me/photos (1 other)", "5 files under photos (1 other)"),
        ("/home/me/x is at 3/4, see https://example.org/a/b", "x is at 3/4, see https://example.org/a/b"),
    ],
)
def test_a_path_is_cut_wherever_it_stands(text, short):
    assert without_paths(text) == short


def test_the_present_folder_is_known_only_where_it_is_meant():
    assert without_paths("a.png of ./b.png and ../c.", [Path()]) == f"a.png of {Path.cwd().name}/b.png and c."


def test_a_command_names_no_folder_above():
    assert command_without_paths("sagan sweep --data '../me/my photos' --prepared=../../p") == (
        "sagan sweep --data 'my photos' --prepared=p"
    )
