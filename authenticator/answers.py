"""What the gate tells people, and the errors that carry it."""

from tornado import web

DIRECTORY_DOWN = (
    "Your password could not be checked, because the user directory does not answer. Nothing is wrong with "
    "what you typed. Try again in a minute; if it stays like this, tell your administrator."
)
STORE_DOWN = (
    "Your one-time code could not be checked, because the database of devices does not answer. Nothing is "
    "wrong with what you typed. Try again in a minute; if it stays like this, tell your administrator."
)
LOGIN_REFUSED = (
    "Name, password or code was not right. A code works once and for about a minute: wait for the next one. "
    "After several wrong tries an account has to wait, and then a right code is refused as well: try again "
    "in a few minutes."
)
FORM_EXPIRED = "This form has expired or came from another page. Open the page again and retry."
ENROL_REFUSED = (
    "Name, password or token was not right, or the token has been used or has expired. "
    "Your administrator can give you a new token."
)
CODE_REFUSED = "That code does not fit. Wait until your app shows the next one and type that."
CONFIRM_REFUSED = (
    "This enrolment is over: it took too long, too many codes were tried, or it was finished elsewhere. "
    "Start again; if your token is no longer taken, ask your administrator for a new one."
)
ADMIN_CODE_REFUSED = (
    "Your own password or code was not right, so nothing was changed. A code works once and for about a "
    "minute: wait for the next one. After several wrong tries you have to wait a few minutes."
)
ADMIN_SELF = (
    "This is your own account. Look after your devices and recovery codes under “Account security”; for "
    "anything else ask another administrator, or use the carme command."
)
ADMIN_OF_ADMIN = "This person is an administrator, whom only administrators may change."
ADMIN_NO_ACTION = "Choose what to do. An enrolment token is valid for 1 to {hours} hours."
PROVE_REFUSED = (
    "Password or code was not right. A code works once, also for signing in: wait for the next one. After "
    "several wrong tries an account has to wait, and then a right code is refused as well."
)
ADDING_OVER = (
    "This device was not added: it took too long, too many codes were tried, or it was finished elsewhere. "
    "Start again."
)
NO_SUCH_DEVICE = "Your account has no such device (any more)."
LAST_DEVICE = "This is your only device. Add another one first: without any, nobody could sign in."
TOO_MANY_DEVICES = "Your account has as many devices as it can have. Remove one that you do not use."
NEW_UNUSABLE = "This cannot be a password: it is empty, or longer than 1024 bytes."
NEW_IS_OLD = "This is the password you have now. Take another one."
NEW_DIFFER = "The two new passwords are not the same. Type both again."
NEXT_CODE = "Your code is used up by this: wait for the next one."
CHANGE_FAILED = (
    "Your password was not changed, because the user directory does not answer. Try again in a minute, with "
    "the next code; if it stays like this, tell your administrator."
)
CHANGE_UNCLEAR = (
    "The user directory broke off while your password was being changed. Either the new or the old one is "
    "your password now: sign in with the new one in a few minutes, and if it is refused, with the old one."
)


class GateError(web.HTTPError):
    """
    An answer of the gate, with a sentence for the page the person is on.

    Parameters
    ----------
    status
        HTTP status.
    sentence
        What the person reads.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(status, "The gate said no.")
        # What JupyterHub shows in place of the log message, and adds (`write_error` of its handlers).
        self.jupyterhub_message = sentence
        self.headers: dict[str, str] = {}


class RefusedError(GateError):
    """Name, password or code was not right; which of them is never told."""

    def __init__(self) -> None:
        super().__init__(403, LOGIN_REFUSED)


class WaitError(GateError):
    """
    Too many logins from one address were refused, whoever's they were.

    Parameters
    ----------
    seconds
        How long the address has to wait.
    """

    def __init__(self, seconds: int) -> None:
        minutes = max(1, -(-seconds // 60))
        super().__init__(
            429,
            "Too many logins from your network address were refused. "
            f"Try again in {minutes} minute{'s' if minutes > 1 else ''}, or from another place.",
        )
        self.headers["Retry-After"] = str(max(1, seconds))


class GateUnavailableError(GateError):
    """
    A fault that is ours and not the person's.

    Parameters
    ----------
    sentence
        What the person reads.
    what
        What does not answer, in one word for the audit log.
    """

    def __init__(self, sentence: str, what: str) -> None:
        super().__init__(503, sentence)
        self.what = what
