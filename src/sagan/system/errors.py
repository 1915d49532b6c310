"""The one class of error for a person's mistakes."""


class UserError(ValueError):
    """Something that a person entered, requested or stores on disk is wrong.

    The message is one sentence: what is wrong with which value or file, what is allowed, what to do. The command line
    shows it without a traceback. Every other exception except OSError is a bug in sagan and keeps its traceback.
    """
