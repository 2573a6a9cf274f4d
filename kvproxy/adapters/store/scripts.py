"""Steps that the store takes as one. All keys carry one hash tag: a cluster has them in one slot.

A binding is a hash of v (version), r (replica), o (origin: the proxy that wrote it), d (a Bound).
"""

from hashlib import sha1
from typing import NamedTuple

# KEYS: binding. ARGV: replica, origin, Bound, milliseconds. Whoever asks first about a conversation
# that nobody knows holds it for the replica it would take; the hold lapses unless it is committed.
ACQUIRE = """
local cur = redis.call('HMGET', KEYS[1], 'v', 'd')
if cur[1] then return cur end
redis.call('HSET', KEYS[1], 'v', '0', 'r', ARGV[1], 'o', ARGV[2], 'd', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return false
"""

# KEYS: binding. ARGV: version known, replica, origin, Bound, milliseconds, channel, head of
# message.
# Returns the new version, or version and Bound of another proxy's binding that was not known.
COMMIT = """
local cur = redis.call('HMGET', KEYS[1], 'v', 'r', 'o', 'd')
if cur[1] and cur[1] ~= ARGV[1] and cur[2] ~= ARGV[2] and cur[3] ~= ARGV[3] then
  return {cur[1], cur[4]}
end
local v = string.format('%d', (tonumber(cur[1]) or 0) + 1)
redis.call('HSET', KEYS[1], 'v', v, 'r', ARGV[2], 'o', ARGV[3], 'd', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('PUBLISH', ARGV[6], ARGV[7] .. v .. ' ' .. ARGV[4])
return {v}
"""

# KEYS: spelling, index of all. ARGV: spelling, milliseconds, now, most entries, channel, message.
# The first spelling stays; returns it if it is another's.
SPELL = """
local cur = redis.call('GET', KEYS[1])
redis.call('ZADD', KEYS[2], ARGV[3], KEYS[1])
if cur then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  if cur ~= ARGV[1] then return cur end
  return false
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
while redis.call('ZCARD', KEYS[2]) > tonumber(ARGV[4]) do
  redis.call('DEL', redis.call('ZPOPMIN', KEYS[2])[1])
end
redis.call('PUBLISH', ARGV[5], ARGV[6])
return false
"""


class Names(NamedTuple):
    """Keys of one fleet."""

    namespace: str

    @property
    def channel(self) -> bytes:
        return self._key("told")

    @property
    def spellings(self) -> bytes:
        return self._key("spellings")

    @property
    def prefixes(self) -> bytes:
        return self._key("prefixes")

    def binding(self, key: bytes) -> bytes:
        return self._key(f"session:{key.hex()}")

    def spelling(self, scope: bytes, digest: bytes) -> bytes:
        return self._key(f"spelling:{scope.hex()}:{digest.hex()}")

    def _key(self, name: str) -> bytes:
        return f"{{{self.namespace}}}:{name}".encode()


def sha(script: str) -> str:
    return sha1(script.encode(), usedforsecurity=False).hexdigest()
