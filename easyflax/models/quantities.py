"""Numbers as people read them: times, bytes, counts."""

from __future__ import annotations

__all__ = ["readable_bytes", "readable_count", "readable_seconds", "readable_share"]


def readable_bytes(number: float) -> str:
    """Returns a number of bytes in the largest unit of which there is one.

    Examples:
        >>> readable_bytes(100), readable_bytes(3 * 2**20)
        ('100 B', '3.0 MiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if number < 1024 or unit == "TiB":
            break
        number /= 1024
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"


def readable_count(number: float) -> str:
    """Returns a count with three digits.

    Examples:
        >>> readable_count(721_015), readable_count(16), readable_count(2.5e12)
        ('721 k', '16', '2.50 T')
    """
    for unit in ("", " k", " M", " G", " T", " P"):
        if number < 999.5 or unit == " P":
            break
        number /= 1000
    return f"{number:.0f}" if not unit else f"{_three_digits(number)}{unit}"


def readable_seconds(seconds: float) -> str:
    """Returns a time with three digits.

    Examples:
        >>> readable_seconds(2.0), readable_seconds(0.0123), readable_seconds(45e-6)
        ('2.00 s', '12.3 ms', '45.0 µs')
    """
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 0.9995:
            return f"{_three_digits(seconds * factor)} {unit}"
    return f"{seconds * 1e6:.1f} µs" if seconds else "0"


def readable_share(share: float) -> str:
    """Returns a share in per cent.

    Examples:
        >>> readable_share(0.123), readable_share(0.004), readable_share(0.0001)
        ('12 %', '0.4 %', '< 0.1 %')
    """
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{share * 100:.1f} %" if 0 < share < 0.00995 else f"{share * 100:.0f} %"


def _three_digits(number: float) -> str:
    return f"{number:.0f}" if number >= 99.95 else f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"
