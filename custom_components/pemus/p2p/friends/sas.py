"""The words that both homes show while they pair: the same ones, unless somebody sits between them.

They are taken from a hash of both keys and of a random number of each home. The home that asks commits to its number
before it learns the other's, and reveals it afterwards, so neither home, nor anybody between them, can search for
numbers that give wanted words: a single guess has a chance of one in `len(WORDS) ** COUNT`, some four billion.
"""

from __future__ import annotations

from hashlib import sha256
from hmac import compare_digest
from typing import Final

from ..net.identity import statement

COUNT: Final = 4
NONCE_SIZE: Final = 32
_LIST: Final = """
acorn actor album amber angel ankle apple apron arena arrow atlas attic autumn badge
bagel baker balloon bamboo banana banjo barrel basil basket beach beacon beard beaver berry
bicycle bishop blanket blossom boat bonfire book bottle branch bread brick bridge broom bubble
bucket butter button cabin cactus camel camera candle canoe canyon carpet carrot castle cello
cement chair cherry chimney clock cloud clover coffee comet compass copper coral cotton cradle
crayon cricket crown daisy dancer desert diamond diary dinner doctor dolphin donkey dragon drawer
dream drum eagle easel echo elbow elephant ember engine envelope evening fabric falcon feather
fence ferry fiddle finger flamingo flute forest fossil fountain galaxy garden garlic ginger giraffe
glacier globe goblet gold granite grape guitar hammer harbor harvest helmet hockey honey horizon
hotel husky iceberg igloo island ivory jacket jaguar jasmine jelly jewel jungle kayak kettle
kitchen kitten koala ladder lagoon lantern lemon leopard library lily lion lizard lobster locket
magnet mango maple market meadow melon mirror monkey moon mosaic mountain museum napkin needle
nephew nest noodle notebook ocean olive onion orange orchid otter oyster paddle palace panda
paper parrot peach pebble pelican pencil pepper piano pigeon pillow pilot planet plum poem
pony potato prairie pumpkin puppet purple puzzle quartz rabbit radish rainbow raven ribbon river
robin rocket rooster saddle salad sandal saturn scarf season shadow shelter silver sister spider
spoon stable statue summer sunset swan table tailor teapot temple tiger tomato trumpet tulip
tunnel turtle umbrella valley velvet violin volcano walnut walrus wagon water whale willow window
winter wizard yellow zebra
"""
WORDS: Final = tuple(_LIST.split())


def commitment(nonce: bytes, key: bytes) -> bytes:
    """Return what binds the home with this key to a number that it does not tell yet."""
    return sha256(statement(b"pemus words commitment 1", key, nonce)).digest()


def is_committed(made: bytes, nonce: bytes, key: bytes) -> bool:
    """Tell whether a commitment was to this number."""
    return len(nonce) == NONCE_SIZE and compare_digest(made, commitment(nonce, key))


def words(
    asking: tuple[bytes, bytes], asked: tuple[bytes, bytes], request: str
) -> tuple[str, ...]:
    """Return the words of a request. Each home is its public key and its number."""
    mixed = sha256(statement(b"pemus words 1", request.encode(), *asking, *asked))
    return tuple(WORDS[byte] for byte in mixed.digest()[:COUNT])
