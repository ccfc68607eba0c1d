"""What the gate tells people."""

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
    "Name, password or code was not right. A code works once and for about a minute: wait for the next one."
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


class GateUnavailableError(web.HTTPError):
    """
    A fault that is ours and not the person's: status 503, and a sentence on the page they are on.

    Parameters
    ----------
    sentence
        What the person reads.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(503, "The gate is not available.")
        # What JupyterHub shows in place of the log message (`write_error` of its handlers).
        self.jupyterhub_message = sentence
