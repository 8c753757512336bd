"""Frames that were right once."""

from __future__ import annotations

import random

from snakepit_port.wire.framing import pack


def mutated(rng: random.Random, frames: list[bytes]) -> bytes:
    """One of the frames with some damage to what it holds; its length is right again."""
    body = bytearray(rng.choice(frames)[4:])
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        place = rng.randrange(len(body) + 1)
        match rng.randrange(6):
            case 0 if place < len(body):
                body[place] ^= 1 << rng.randrange(8)
            case 1 if place < len(body):
                body[place] = rng.randrange(256)
            case 2:
                del body[place:]
            case 3:
                body[place:place] = rng.randbytes(rng.randrange(1, 9))
            case 4:
                del body[place : place + rng.randrange(1, 9)]
            case _:
                body += body[place : place + 20]
    return pack(bytes(body))
