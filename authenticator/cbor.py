"""Whether CBOR (RFC 8949) is of the kind authenticators write, before a library reads it. No I/O.

Tags let one item stand for another one that was there before (value sharing): with them, 240 bytes are a
structure that takes half a minute to write down again, which the WebAuthn library does. CTAP 2.1, section 8,
forbids tags, lengths that are left open, and deep nesting, so no authenticator needs them.
"""

MAX_DEPTH = 8  # the deepest there is holds a certificate chain: map, map, list

_BYTES, _TEXT, _LIST, _MAP, _TAG = 2, 3, 4, 5, 6
_SIZES = {24: 1, 25: 2, 26: 4, 27: 8}  # of a number that stands in bytes of its own


def is_plain(data: bytes) -> bool:
    """Say whether these are whole items, one after the other, without tags, open lengths and deep nesting."""
    try:
        end = 0
        while end < len(data):
            end = _end_of_item(data, end, MAX_DEPTH)
    except (ValueError, IndexError):
        return False
    return True


def _end_of_item(data: bytes, start: int, depth: int) -> int:
    kind, short = divmod(data[start], 32)
    end = start + 1
    number = short
    if kind == _TAG or short > max(_SIZES) or depth == 0:
        raise ValueError("a tag, an open length, or nesting too deep")
    if size := _SIZES.get(short):
        number = int.from_bytes(data[end : end + size])
        end += size
    if kind in {_BYTES, _TEXT}:
        end += number
    elif kind in {_LIST, _MAP}:
        # Each has a byte at least, so that a great number comes to the end of the data soon.
        for _ in range(number * (kind - _LIST + 1)):
            end = _end_of_item(data, end, depth - 1)
    if end > len(data):
        raise ValueError("an item that is cut off")
    return end
