"""The one class of error for a person's mistakes, and how trouble of the machine shows itself."""

import errno

from sagan.system.sentences import name_settings


class UserError(ValueError):
    """Something that a person entered, requested or stores on disk is wrong.

    The message is one sentence: what is wrong with which value or file, what is allowed, what to do. The command line
    shows it without a traceback. Every other exception except OSError is a bug in sagan and keeps its traceback.

    Names of settings in backticks are spelt as flags by the command line, and plainly in Python: see `name_settings`.
    """

    def __str__(self) -> str:
        return name_settings(super().__str__())


_OUT_OF_MEMORY = (
    "out of memory",
    "DefaultCPUAllocator",
    "std::bad_alloc",
    "CUBLAS_STATUS_ALLOC_FAILED",
)  # in torch's RuntimeErrors


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or this machine, has too little memory."""
    if isinstance(error, RuntimeError):  # torch.OutOfMemoryError is one
        return any(form in str(error) for form in _OUT_OF_MEMORY)
    if isinstance(error, OSError):  # of the system, or Pillow's about its decoders
        return error.errno == errno.ENOMEM or str(error).startswith("out of memory")
    return isinstance(error, MemoryError)


def describe(error: BaseException) -> str:
    """An error in a sentence: what is wrong, and with which file; the names of settings are still marked."""
    if isinstance(error, OSError):
        return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    if isinstance(error, UserError):
        return ValueError.__str__(error)
    return f"{type(error).__name__}: {error}".rstrip(": ")


def is_of_the_machine(error: BaseException) -> bool:
    """Whether an error while bytes in memory are decoded comes from the machine or the installation, not from them."""
    if isinstance(error, OSError):  # Pillow's about damaged images have no number
        return error.errno is not None or is_out_of_memory(error)
    if isinstance(error, RuntimeError):
        return "can't start new thread" in str(error) or is_out_of_memory(error)
    return isinstance(error, (MemoryError, ImportError))
