"""Without a GPU Triton's kernels run in its interpreter. Triton looks at the variable when it is first imported."""

import os
import sys

import torch

if not torch.cuda.is_available() and "triton" not in sys.modules:
    os.environ.setdefault("TRITON_INTERPRET", "1")
