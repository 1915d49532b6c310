import pytest
import torch

from sagan.bench.tally import Saved, Tally, peak_memory

MIB = 2**20


def test_operations_are_those_of_the_products():
    a, b = torch.randn(3, 5), torch.randn(5, 7)
    convolution = torch.nn.Conv2d(2, 4, 3, bias=False)
    with Tally() as tally:
        a @ b
        convolution(torch.randn(1, 2, 10, 10))
    assert tally.operations == 2 * 3 * 5 * 7 + 2 * 4 * (2 * 3 * 3) * 8 * 8


def test_a_backward_pass_counts_twice_its_forward_pass():
    a, b = torch.randn(3, 5, requires_grad=True), torch.randn(5, 7, requires_grad=True)
    with Tally() as tally:
        (a @ b).sum().backward()
    assert tally.operations == 3 * 2 * 3 * 5 * 7


def test_bytes_are_counted_while_they_are_held_and_views_only_once():
    with Tally() as tally:
        first = torch.zeros(MIB, dtype=torch.uint8)
        view = first.view(2, -1)
        second = first + 1
        assert tally.held == 2 * MIB
        del first
        assert tally.held == 2 * MIB  # the view holds it
        del view
        assert tally.held == MIB
        second.add_(1)
        assert tally.held == MIB
    assert tally.peak == 2 * MIB


def test_a_storage_that_grows_is_counted_anew():
    with Tally() as tally:
        buffer = torch.empty(0, dtype=torch.uint8)
        buffer.resize_(MIB)
        assert tally.held == MIB


def test_saved_bytes_leave_out_the_parameters():
    layer = torch.nn.Linear(4, 4, bias=False)
    x = torch.randn(8, 4)
    saved = Saved(without=layer.parameters())
    with saved:
        out = layer(x).relu().relu()
    assert saved.bytes == x.nbytes + 2 * out.nbytes


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
