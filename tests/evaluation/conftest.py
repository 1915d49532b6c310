import pytest
import torch


def switches():
    backends = torch.backends
    operations = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
    return [
        *(operation.fp32_precision for operation in operations),
        backends.cudnn.benchmark,
        backends.cudnn.deterministic,
        torch.is_autocast_enabled("cpu"),
    ]


@pytest.fixture(name="hasty")
def make_hasty(monkeypatch):
    """Every switch set for speed, as a training may leave them."""
    backends = torch.backends
    monkeypatch.setattr(backends.cudnn, "benchmark", True)
    monkeypatch.setattr(backends.cudnn, "deterministic", False)
    fast = {backends.cuda.matmul: "tf32", backends.cudnn.conv: "tf32"}
    fast |= {backends.mkldnn.matmul: "bf16", backends.mkldnn.conv: "bf16"}
    before = {operation: operation.fp32_precision for operation in fast}
    for operation, precision in fast.items():
        operation.fp32_precision = precision
    with torch.autocast("cpu", dtype=torch.bfloat16):
        yield switches()
    for operation, precision in before.items():
        operation.fp32_precision = precision
