"""Whether engines find again what they generated, when the next turn repeats it: an answer's text
need not give the tokens that it was made of."""

_MODELS_MAX = 1024
_STEP = 0.2


class EchoRate:
    """By model, from what was reported where it could be told; a half where nothing was."""

    def __init__(self) -> None:
        self._shares: dict[str, float] = {}

    def found_again(self, model: str) -> bool:
        """Whether it mostly was. Not before it was seen once."""
        return self._shares.get(model, 0.0) >= 0.5

    def saw(self, model: str, *, again: bool) -> None:
        if len(self._shares) >= _MODELS_MAX:
            self._shares.clear()
        was = self._shares.get(model, 0.5)
        self._shares[model] = was + _STEP * (again - was)
