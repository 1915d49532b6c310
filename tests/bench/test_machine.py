import json

import torch

from sagan.bench import machine
from sagan.bench.machine import available_memory, describe_machine, machine_card


def test_the_card_is_json_and_names_the_machine():
    card = json.loads(json.dumps(machine_card(torch.device("cpu"))))
    assert card["threads"] == torch.get_num_threads()
    assert card["versions"]["torch"] == torch.__version__
    assert card["cpu"] in describe_machine(card)


def test_free_memory_is_some_and_no_more_than_there_is():
    assert 0 < available_memory() <= machine.total_memory()


def test_a_container_has_no_more_than_its_limit(monkeypatch):
    monkeypatch.setattr(machine, "_left_in_group", lambda: 1000)
    assert available_memory() == 1000
