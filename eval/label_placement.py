"""Where the labels of a scatter plot go: beside their points, on no point and on no other label.

Coordinates are in any unit, such as pixels, and either direction of the y axis.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

_GAPS = (1.1, 2, 3, 4.5, 6, 8)  # between a point's centre and its label, in radii of points
_DIRECTIONS = ((1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))


class Place(NamedTuple):
    """The centre of a point or a label."""

    x: float
    y: float


class Size(NamedTuple):
    """The extent of a label."""

    width: float
    height: float


class Box(NamedTuple):
    """A rectangle between two corners."""

    left: float
    low: float
    right: float
    high: float

    @staticmethod
    def around(centre: Place, size: Size) -> "Box":
        """The rectangle of this size and centre."""
        x, y = size.width / 2, size.height / 2
        return Box(centre.x - x, centre.y - y, centre.x + x, centre.y + y)

    def meets(self, other: "Box") -> bool:
        """Whether the insides of both overlap."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.low < other.high
            and other.low < self.high
        )

    def holds(self, other: "Box") -> bool:
        """Whether the other lies within."""
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.low <= other.low
            and other.high <= self.high
        )


def place_labels(
    points: Sequence[Place], labels: Sequence[Size], *, radius: float, within: Box
) -> list[Place]:
    """The centre of each point's label: the nearest free place around the point, in the order of points.

    ``radius`` is a point's. Where no place is free, a label stands right of its point.

    >>> place_labels([Place(5, 5), Place(9, 5)], [Size(4, 2)] * 2, radius=1, within=Box(0, 0, 20, 10))
    [Place(x=5.0, y=7.1), Place(x=12.1, y=5.0)]
    """
    taken = [Box.around(point, Size(2 * radius, 2 * radius)) for point in points]
    centres: list[Place] = []
    for point, size in zip(points, labels, strict=True):
        candidates = list(_around(point, size, radius))
        boxes = [Box.around(centre, size) for centre in candidates]
        free = (
            place
            for place, box in enumerate(boxes)
            if within.holds(box) and not any(box.meets(other) for other in taken)
        )
        place = next(free, 0)
        centres.append(candidates[place])
        taken.append(boxes[place])
    return centres


def _around(point: Place, size: Size, radius: float) -> Iterator[Place]:
    for gap in _GAPS:
        for x, y in _DIRECTIONS:
            yield Place(
                point.x + x * (gap * radius + size.width / 2), point.y + y * (gap * radius + size.height / 2)
            )
