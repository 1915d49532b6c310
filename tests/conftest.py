import signal

import pytest
import torch

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a job in the background: the tests send it to themselves
    signal.signal(signal.SIGINT, signal.default_int_handler)

torch.set_num_threads(1)  # the tensors are tiny and the workers share the cores: threads would only wait for each other


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
