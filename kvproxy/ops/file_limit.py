"""Open files: as many as the system lets this process have, and a word where that is too few."""

import logging
import resource

log = logging.getLogger("kvproxy")


def raise_file_limit(connections: int) -> int:
    """The limit from now on, which is logged where `connections` clients at a time would exceed it:
    a streaming request takes one file for its client and one for its replica."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):
            # Some systems name a hard limit that they do not grant.
            pass
    wanted = 2 * connections
    if soft != resource.RLIM_INFINITY and soft < wanted:
        log.warning(
            "this process may open %d files, and %d connections take up to %d: raise the limit "
            "(ulimit -n, LimitNOFILE), or lower server.max_connections",
            soft,
            connections,
            wanted,
        )
    return soft
