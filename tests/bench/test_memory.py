import pytest
import torch

from sagan.bench.memory import HeldBytes, SavedBytes, peak_memory

MIB = 2**20


def test_bytes_are_counted_while_they_are_held_and_views_only_once():
    with HeldBytes() as held:
        first = torch.zeros(MIB, dtype=torch.uint8)
        view = first.view(2, -1)
        second = first + 1
        assert held.now == 2 * MIB
        del first
        assert held.now == 2 * MIB  # the view holds it
        del view
        assert held.now == MIB
        second.add_(1)
        assert held.now == MIB
    assert held.peak == 2 * MIB


def test_a_storage_that_grows_is_counted_anew():
    with HeldBytes() as held:
        buffer = torch.empty(0, dtype=torch.uint8)
        buffer.resize_(MIB)
        assert held.now == MIB


def test_saved_bytes_leave_out_the_parameters():
    layer = torch.nn.Linear(4, 4, bias=False)
    x = torch.randn(8, 4)
    saved = SavedBytes(without=layer.parameters())
    with saved:
        out = layer(x).relu().relu()
    assert saved.total == x.nbytes + 2 * out.nbytes


def test_the_peak_holds_what_was_there_before():
    weight = torch.zeros(MIB, dtype=torch.uint8)

    def action():
        torch.zeros(MIB, dtype=torch.uint8)
        torch.zeros(2 * MIB, dtype=torch.uint8)

    assert peak_memory(action, torch.device("cpu")) == 2 * MIB
    assert peak_memory(action, torch.device("cpu"), [weight]) == 3 * MIB


@pytest.mark.gpu
def test_on_cuda_the_allocator_says_it():
    device = torch.device("cuda")
    before = torch.cuda.memory_allocated()
    peak = peak_memory(lambda: torch.zeros(MIB, dtype=torch.uint8, device=device), device)
    assert peak - before == MIB
