"""What is wrong with a file of traces."""


class TraceError(Exception):
    """A trace that cannot be read; the message names the file and the field."""
