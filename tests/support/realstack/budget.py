"""How long a run on the real stack may take, so that a machine of unknown load ends it in time.

Running out of time says nothing about kvproxy: what was not reached is skipped, and the run as a
whole counts as skipped, unless something that was reached failed.
"""

import os
import time

# Why a test is skipped that this machine is too busy for.
OUT_OF_TIME = "no time was left for it on this machine"
NOT_READY = "an engine did not get ready on this machine"

ENDS_AT = "KVPROXY_REALSTACK_ENDS_AT"
_MINUTES = "KVPROXY_REALSTACK_MINUTES"
_MINUTES_DEFAULT = 20.0


def minutes() -> float:
    """All tests together, their engines' starts included; a quiet machine needs a third of it."""
    return float(os.environ.get(_MINUTES, _MINUTES_DEFAULT))


def left_s() -> float:
    """Seconds until the run is over; without end where nobody set one."""
    return float(os.environ.get(ENDS_AT, "inf")) - time.time()
