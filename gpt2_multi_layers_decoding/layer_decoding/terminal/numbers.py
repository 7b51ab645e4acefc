"""Numbers as short as they can be said."""


def percent(probability: float) -> str:
    """A probability in at most four cells; what is not quite 0 or 1 is not said to be.

    >>> [percent(p) for p in (1, 0.999, 0.486, 0.0486, 0.0004, 0)]
    ['100%', '>99%', '49%', '4.9%', '<.1%', '0%']
    """
    if probability in (0, 1):
        return f"{probability:.0%}"
    if probability >= 0.995:
        return ">99%"
    if probability < 0.0005:
        return "<.1%"
    return f"{probability:.0%}" if probability >= 0.0995 else f"{probability:.1%}"


def bits(value: float) -> str:
    """A number of bits: two decimals below ten, one above."""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}"


def in_short(number: float) -> str:
    """A number of any size in at most nine cells.

    >>> [in_short(x) for x in (1.0, 23.456, 1234.5, 2.5e9)]
    ['1.0', '23.5', '1,234', '2.5e+09']
    """
    return f"{number:.1f}" if number < 999.95 else f"{number:,.0f}" if number < 1e7 else f"{number:.1e}"
