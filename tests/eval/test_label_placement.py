"""Labels of plots: beside their points, apart from each other, within the plot."""

from hypothesis import given, settings
from hypothesis import strategies as st

from flatcoat.eval.label_placement import Box, Place, Size, place_labels

AREA = Box(0, 0, 400, 300)
PLACES = st.builds(Place, st.floats(40, 360), st.floats(40, 260))


@settings(deadline=None)
@given(st.lists(PLACES, min_size=1, max_size=6))
def test_labels_of_a_few_points_meet_nothing(points):
    sizes = [Size(30, 12)] * len(points)
    labels = place_labels(points, sizes, radius=5, within=AREA)
    boxes = [Box.around(*label) for label in zip(labels, sizes, strict=True)]
    dots = [Box.around(point, Size(10, 10)) for point in points]
    for place, box in enumerate(boxes):
        assert AREA.holds(box)
        assert not any(box.meets(other) for other in [*dots, *boxes[:place]])


def test_a_lone_label_stands_right_of_its_point_and_left_at_the_right_edge():
    for x, side in ((200, 1), (395, -1)):
        (label,) = place_labels([Place(x, 150)], [Size(30, 12)], radius=5, within=AREA)
        assert (label.x - x) * side > 15
        assert label.y == 150


def test_without_a_free_place_a_label_is_still_placed():
    points = [Place(5, 5)] * 3
    assert len(place_labels(points, [Size(30, 12)] * 3, radius=5, within=Box(0, 0, 10, 10))) == 3
