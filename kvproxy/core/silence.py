"""Replicas that owe us something: announcements behind their answers, or figures in them."""

# Answers without an announcement, of which even short ones fill a block now and then.
_UNHEARD_MAX = 50
# Older engines leave the figure out when it is 0, so one answer without it proves nothing.
_UNREPORTED_MAX = 20
# Streams tell nothing at all unless somebody wants it: some clients do not.
_UNCOUNTED_MAX = 50


class Silence:
    """Answers in a row without the one or the other, by replica; `streams`: those without any
    figure."""

    def __init__(self) -> None:
        self._unheard: dict[str, int] = {}
        self._unreported: dict[str, int] = {}
        self.streams: dict[str, int] = {}

    def announced(self, replica: str) -> None:
        self._unheard.pop(replica, None)

    def unannounced(self, replica: str) -> bool:
        """An answer ended; whether its replica has just been silent for long enough to say so."""
        unheard = self._unheard[replica] = self._unheard.get(replica, 0) + 1
        return unheard == _UNHEARD_MAX

    def reported(self, replica: str) -> None:
        self._unreported.pop(replica, None)

    def unreported(self, replica: str) -> bool:
        """An answer told nothing of what should have been cached; whether that is enough to say."""
        count = self._unreported[replica] = self._unreported.get(replica, 0) + 1
        return count == _UNREPORTED_MAX

    def counted(self, replica: str) -> None:
        """An answer told its tokens, whatever it said of what was cached."""
        self.streams.pop(replica, None)

    def uncounted(self, replica: str) -> bool:
        """A good stream ended that told no tokens; whether that is enough to say."""
        count = self.streams[replica] = self.streams.get(replica, 0) + 1
        return count == _UNCOUNTED_MAX

    def forget(self, replica: str) -> None:
        self.announced(replica)
        self.reported(replica)
        self.counted(replica)
