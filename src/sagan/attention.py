"""The attention op and its patterns under their public name, for use in other networks."""

from sagan.core.attention import (
    BACKENDS,
    Backend,
    ExcludeLocal,
    Full,
    Local,
    Masking,
    Pattern,
    attend,
    attention_weights,
    choose_backend,
    describe_choice,
    reasons_against,
)

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
