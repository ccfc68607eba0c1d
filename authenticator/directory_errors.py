"""What can come of asking the directory, other than an answer."""


class WrongPasswordError(Exception):
    """
    The directory knows nobody by this name and password who may come in.

    A text, where there is one, is for the log: the person is not told more than that it was wrong.
    """


class DirectoryUnreachableError(Exception):
    """The directory gave no usable answer, which says nothing about the password. The text is for the log."""


class ChangeUnclearError(DirectoryUnreachableError):
    """A new password was sent, and no answer came: it may be in force or not."""


class PasswordPolicyError(Exception):
    """
    The directory does not take the new password, and the old one stays.

    Parameters
    ----------
    sentence
        For the person: why, and what to do.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence
