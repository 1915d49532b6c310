import pytest
import torch

from sagan.system.finite import FiniteCheck


def rows(count, bad=(), value=torch.nan):
    x = torch.zeros(count, 3, 2)
    for number in bad:
        x[number, 1] = value
    return x


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_refused_at_once_and_counted(value):
    check = FiniteCheck("{bad} of {count} pictures are none")
    check.add(rows(4))
    check.add(rows(0))
    with pytest.raises(ValueError, match="^2 of 5 pictures are none$"):
        check.add(rows(5, [0, 3], value))
    check.add(rows(4))
    check.verify()


@pytest.mark.gpu
def test_a_gpu_is_waited_for_once():
    check = FiniteCheck("{bad} of {count} pictures are none")
    parts = [rows(5000, [1, 4999]).cuda(), rows(3).cuda()]
    torch.cuda.set_sync_debug_mode("error")
    try:
        for part in parts:
            check.add(part)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    with pytest.raises(ValueError, match="2 of 5003 pictures are none"):
        check.verify()
    check.verify()
