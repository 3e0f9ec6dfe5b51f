"""Best-fit packing: nothing lost, nothing too full, hardly any room left; equal to a slow twin."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flatcoat.backbone.pretraining.packer import BestFitPacker

LENGTHS = st.lists(st.integers(1, 40), max_size=80)


def packed(lengths: list[int], open_batches: int = 3) -> list[list[int]]:
    packer = BestFitPacker[int](40, open_batches=open_batches)
    done = [packer.add(number, length) for number, length in enumerate(lengths)]
    return [*(batch for batch in done if batch is not None), *packer.flush()]


def by_definition(lengths: list[int], budget: int, most: int) -> list[list[int]]:
    """Best fit over lists of numbers whose lengths are summed each time."""
    opened: list[list[int]] = []
    closed: list[list[int]] = []

    def used(batch: list[int]) -> int:
        return sum(lengths[number] for number in batch)

    for number, length in enumerate(lengths):
        fullest_first = sorted(opened, key=lambda batch: -used(batch))
        fits = [batch for batch in fullest_first if used(batch) + length <= budget]
        was_closed = False
        if not fits:
            if len(opened) == most:
                closed.append(fullest_first[0])
                opened.remove(fullest_first[0])
                was_closed = True
            fits = [[]]
            opened.append(fits[0])
        fits[0].append(number)
        if used(fits[0]) == budget and not was_closed:
            closed.append(fits[0])
            opened.remove(fits[0])
    return closed + sorted(opened, key=lambda batch: -used(batch))


@given(LENGTHS, st.integers(1, 4))
def test_it_is_best_fit(lengths: list[int], open_batches: int) -> None:
    batches = packed(lengths, open_batches)
    assert batches == by_definition(lengths, 40, open_batches)
    assert sorted(number for batch in batches for number in batch) == list(range(len(lengths)))
    assert all(sum(lengths[number] for number in batch) <= 40 for batch in batches)


@given(LENGTHS, st.data())
def test_it_goes_on_from_any_state(lengths: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(lengths)))
    first, second = BestFitPacker[int](40), BestFitPacker[int](40)
    done = [first.add(number, length) for number, length in enumerate(lengths[:cut])]
    second.restore(first.state())
    done += [second.add(number + cut, length) for number, length in enumerate(lengths[cut:])]
    assert [*(batch for batch in done if batch is not None), *second.flush()] == packed(lengths, 16)


def test_batches_are_99_percent_full() -> None:
    draw = np.random.default_rng(0)
    for lengths in (
        np.clip(draw.normal(256, 64, 5000), 32, 512).astype(int),
        np.clip(draw.gamma(1.0, 90.0, 5000), 3, 1024).astype(int),
    ):
        packer = BestFitPacker[int](4096)
        full = [batch for length in lengths.tolist() if (batch := packer.add(length, length)) is not None]
        assert len(full) > 50
        assert sum(map(sum, full)) / (4096 * len(full)) > 0.99
