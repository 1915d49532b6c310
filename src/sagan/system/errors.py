"""The one class of error that is a person's to put right."""


class UserError(ValueError):
    """Something that a person gave, asked for or keeps on disk is wrong.

    The message is one sentence: what is wrong with which value or file, what is allowed, what to do. The command line
    shows it without a traceback. Every other exception but OSError is a fault of sagan and keeps its traceback.
    """
