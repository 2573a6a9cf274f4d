"""Errors that were dealt with let go of the calls that they came through."""


def spent(error: BaseException) -> None:
    """To be called where an error out of a library ends: nobody can tell where it was raised then.

    Calls of aiohttp keep the error that they raise, and its traceback keeps them: with every
    attempt to reach what is down, some 80 objects would wait for the collector, which comes seldom
    (kvproxy/cli/serve.py).
    """
    found: BaseException | None = error
    while found is not None and found.__traceback__ is not None:
        found.__traceback__ = None
        found = found.__cause__ or found.__context__
