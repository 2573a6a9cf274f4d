"""Steps that the store takes as one. All keys carry one hash tag: a cluster has them in one slot.

A binding is a hash of v (version), o (origin: the proxy that wrote it), d (a Bound) and t (when its
turn was placed, in milliseconds of the store's clock; a hold has none).
"""

from hashlib import sha1
from typing import NamedTuple

# KEYS: binding. ARGV: origin, Bound, milliseconds. Whoever asks first about a conversation that
# nobody knows holds it for the replica it would take; the hold lapses unless it is committed.
ACQUIRE = """
local cur = redis.call('HMGET', KEYS[1], 'v', 'd')
if cur[1] then return cur end
redis.call('HSET', KEYS[1], 'v', '0', 'o', ARGV[1], 'd', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return false
"""

# KEYS: binding. ARGV: version and origin of the word that was known when the turn was placed,
# origin, Bound, milliseconds since it was placed, milliseconds to live, channel, head of message.
# Whoever knew the word that is there follows it, as does its own writer; among those that knew
# nothing of each other the later turn stays. A store that lost its memory counts on from the
# versions that proxies know, so none is given twice to words of one origin.
# Returns the new version, or version and Bound of what stays.
COMMIT = """
local cur = redis.call('HMGET', KEYS[1], 'v', 'o', 't', 'd')
local version = math.max(tonumber(cur[1]) or 0, tonumber(ARGV[1]))
local time = redis.call('TIME')
local at = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000 - tonumber(ARGV[5])
local known = cur[2] == ARGV[3] or (cur[1] == ARGV[1] and cur[2] == ARGV[2])
if cur[1] and not known and (tonumber(cur[3]) or 0) > at then
  local v = string.format('%.0f', version)
  redis.call('HSET', KEYS[1], 'v', v)
  return {v, cur[4]}
end
local v = string.format('%.0f', version + 1)
local t = string.format('%.3f', at)
redis.call('HSET', KEYS[1], 'v', v, 'o', ARGV[3], 't', t, 'd', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[6])
redis.call('PUBLISH', ARGV[7], ARGV[8] .. v .. ' ' .. ARGV[4])
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
    def events(self) -> bytes:
        return self._key("events")

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
