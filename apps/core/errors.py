"""What the product says when it does not do what was asked."""


class Refused(Exception):
    """The state of things does not allow this verb now; the message tells a person what to do.

    `code` is for programs and never changes once released.
    """

    code = "refused"

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code


class Unavailable(Exception):
    """A server that this needs did not answer; the same call may succeed later."""

    def __init__(self, message: str, code: str = "unavailable") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
