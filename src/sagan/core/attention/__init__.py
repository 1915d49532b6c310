"""Attention over feature maps, in which a pattern decides which keys a query may attend to."""

from sagan.core.attention.dispatch import BACKENDS, Backend, attend, choose_backend, describe_choice, reasons_against
from sagan.core.attention.patterns import ExcludeLocal, Full, Local, Masking, Pattern
from sagan.core.attention.reference import attention_weights

__all__ = [
    "BACKENDS",
    "Backend",
    "ExcludeLocal",
    "Full",
    "Local",
    "Masking",
    "Pattern",
    "attend",
    "attention_weights",
    "choose_backend",
    "describe_choice",
    "reasons_against",
]
