"""Deterministic word text of an exact length, one token a word.

Every word is a space and three letters: four bytes, which is one token for the emulator's
stand-in tokeniser and for almost every BPE vocabulary, and needs no JSON escape. A block's text
is two slices of one shared pool, so that it costs about a microsecond and no randomness.
"""

from random import Random

from xxhash import xxh3_64_intdigest, xxh3_128_intdigest

WORD_BYTES = 4
_POOL_WORDS = 1 << 18
# Common words, four bytes each with the space in front.
_VOCABULARY = (
    b" act add age ago aid aim air all and any app are arm art ask bad bag ban bar bat bed bet bid"
    b" big bit box boy bus but buy can cap car cat cup cut dad day did die dog dry due ear eat egg"
    b" end eye far fat fee few fit fix fly for fun gap gas get god got gun guy had has her him his"
    b" hit hot how ice ill its job joy key kid law lay led leg let lie lot low man map may men met"
    b" mix mom net new nor not now nut odd off oil old one our out own pay per pet pie pop pre pro"
    b" put raw red rid row run sad sat say sea see set she sir sit six sky son sum sun tax tea ten"
    b" the tie tip too top toy try two use via war was way web who win won yes yet you zip"
)


class WordPool:
    """The text of one seed: `block_text` gives each (owner, block) its own words.

    `owner` is a 64-bit number that stands for whoever the block belongs to: a play of a
    conversation, or everybody for the shared prefix.
    """

    def __init__(self, seed: int) -> None:
        size = WORD_BYTES
        words = [_VOCABULARY[at : at + size] for at in range(0, len(_VOCABULARY), size)]
        self._pool = b"".join(Random(seed).choices(words, k=_POOL_WORDS))

    def block_text(self, owner: int, block: int, words: int) -> bytes:
        """The `words` words of a block, always the same for the same arguments."""
        digest = xxh3_128_intdigest(block.to_bytes(9, "little", signed=True), seed=owner)
        front = words // 2
        start = digest % (_POOL_WORDS - front) * WORD_BYTES
        rest = words - front
        second = (digest >> 64) % (_POOL_WORDS - rest) * WORD_BYTES
        return (
            self._pool[start : start + front * WORD_BYTES]
            + self._pool[second : second + rest * WORD_BYTES]
        )


def owner_id(*parts: object) -> int:
    """A stable 64-bit number for a tuple of names and numbers."""
    return xxh3_64_intdigest("\x1f".join(map(str, parts)).encode())
