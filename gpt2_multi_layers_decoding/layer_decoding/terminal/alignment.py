"""Which tokens of one text are also in another, in the same order."""

from collections.abc import Sequence


def common_positions(row: Sequence[int], other: Sequence[int]) -> list[tuple[int, int]]:
    """A longest common subsequence, as pairs (position in row, position in other), both ascending.

    Of several longest ones it is always the same one, but no particular one. Θ(len(row) · len(other)).

    >>> common_positions([1, 2, 3, 4], [1, 9, 3, 4])
    [(0, 0), (2, 2), (3, 3)]
    """
    # rest[i][j]: length of the longest common subsequence of row[i:] and other[j:]
    rest = [[0] * (len(other) + 1) for _ in range(len(row) + 1)]
    for i in reversed(range(len(row))):
        below, line = rest[i + 1], rest[i]
        for j in reversed(range(len(other))):
            line[j] = below[j + 1] + 1 if row[i] == other[j] else max(below[j], line[j + 1])
    pairs = []
    i = j = 0
    while i < len(row) and j < len(other):
        if row[i] == other[j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif rest[i + 1][j] >= rest[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs


def common_prefix(row: Sequence[object], other: Sequence[object]) -> int:
    """How many tokens, or characters, two texts share before the first place where they part."""
    for position, (ours, theirs) in enumerate(zip(row, other, strict=False)):
        if ours != theirs:
            return position
    return min(len(row), len(other))
