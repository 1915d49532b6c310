"""The machine: each fault of a made one is found, and nothing is left behind."""

import errno
import os
import sys
import time
import tomllib
from pathlib import Path

import pytest
import torch

import sagan.doctor.machine as machine
from sagan.doctor.findings import exit_status
from sagan.doctor.machine import EXTRAS, examine_machine, examine_place

CPU = torch.device("cpu")


def kinds(findings, severity):
    return {finding.kind for finding in findings if finding.severity == severity}


def test_this_machine_can_train(tmp_path):
    findings = examine_machine(CPU, {"prepared": str(tmp_path / "new" / "prepared")})
    assert exit_status(findings) == 0
    assert list(tmp_path.iterdir()) == []  # neither the folder nor the probe


def test_a_clock_that_cannot_be_right(monkeypatch):
    for year, wrong in ((1970, True), (2026, False), (2099, True)):
        monkeypatch.setattr(time, "time", lambda year=year: (year - 1970) * 31_556_952 + 86_400)
        assert ("clock" in kinds(machine._clock(), "warning")) == wrong


def test_a_missing_extra_says_what_it_is_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None if name == "lmdb" else object())
    (finding,) = [each for each in machine._extras() if each.severity == "note"]
    assert finding.remedy == "pip install 'sagan[data]'"
    assert "LMDB" in finding.text


def test_every_extra_is_one_of_the_package():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    assert {extra for extra, _ in EXTRAS.values()} <= set(project["optional-dependencies"])


def test_a_file_in_the_place_of_a_folder_stops(tmp_path):
    (tmp_path / "file").write_text("")
    (finding,) = examine_place("prepared", tmp_path / "file" / "below")
    assert finding.severity == "stop"
    assert "--prepared" in finding.remedy


def test_a_full_disk_stops(tmp_path, monkeypatch):
    def full(path, write):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(machine, "write_whole", full)
    (finding,) = examine_place("prepared", tmp_path)
    assert (finding.severity, "No space left" in finding.text) == ("stop", True)


def test_little_room_and_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "free_bytes", lambda folder: 10_000)
    monkeypatch.setattr(machine, "available_memory", lambda: 10_000)
    assert kinds(examine_place("prepared", tmp_path), "warning") == {"disk"}
    assert kinds(machine._memory(CPU), "warning") == {"memory"}


def test_a_disk_with_another_clock(tmp_path, monkeypatch):
    real = machine.write_whole

    def later(path, write):
        real(path, write)
        os.utime(path, (time.time() + 3600,) * 2)

    monkeypatch.setattr(machine, "write_whole", later)
    assert kinds(examine_place("prepared", tmp_path), "warning") == {"clock"}


@pytest.mark.parametrize("cuda", [None, "12.8"])
def test_a_gpu_that_torch_cannot_use(tmp_path, monkeypatch, cuda):
    driver = tmp_path / "version"
    driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.10  Wed Jan\n")
    monkeypatch.setattr(machine, "_DRIVER", driver)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    (finding,) = machine._gpu(CPU)
    assert finding.severity == "warning"
    assert "570.86.10" in finding.text
    assert ("processors only" in finding.text) == (cuda is None)
