"""Effects of three switches: what is computed adds up, and nothing is left over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageferry.paper import ablation
from pageferry.paper.ablation import Ablation, combinations, config_for, distinct, same_as
from pageferry.paper.locality.sentences import mechanism_sentence
from pageferry.paper.locality.view import ablation_sheets

SEEDS = 4
ON = frozenset(ablation.SWITCHES)


def made(values: list[list[float]]) -> Ablation:
    """An ablation whose distinct combinations have these values, one for each seed."""
    return Ablation(
        made="2026-01-01",
        machine={},
        workload="uniform",
        runs=tuple(
            (tuple(sorted(on)), {figure: tuple(each) for figure in ablation.FIGURES})
            for on, each in zip(distinct(), values, strict=True)
        ),
    )


tables = st.lists(
    st.lists(st.floats(1, 1e9), min_size=SEEDS, max_size=SEEDS), min_size=6, max_size=6
)


def test_eight_combinations_are_six_runs() -> None:
    assert len(list(combinations())) == 8
    assert len(distinct()) == 6
    assert {on for on in combinations() if on != same_as(on)} == {
        frozenset({"hold"}),
        frozenset({"hold", "lines"}),
    }


def test_each_switch_is_an_option() -> None:
    off, on = config_for(frozenset(), 1), config_for(ON, 1)
    assert (off.cache, off.hold_write_backs, off.granularity) == (0, False, "page")
    assert (on.cache > 0, on.hold_write_backs, on.granularity) == (True, True, "line")
    assert config_for(frozenset({"lines"}), 1).travels_by_line
    assert not config_for(frozenset({"cache", "hold"}), 1).travels_by_line
    assert {config_for(each, 1).workload for each in combinations()} == {on.workload}


@given(tables)
def test_all_effects_add_up_to_what_all_three_save(values: list[list[float]]) -> None:
    found = ablation.effects(made(values))
    for figure in ablation.FIGURES:
        total = sum(found.of(figure).values())
        scale = max(max(each) for each in values)
        assert total == pytest.approx(found.saving(figure), abs=1e-9 * scale)


@given(tables)
def test_without_a_cache_holding_has_no_effect(values: list[list[float]]) -> None:
    found = ablation.effects(made(values)).of("bytes")
    scale = max(max(each) for each in values)
    assert found[frozenset({"hold"})] == 0
    assert found[frozenset({"hold", "lines"})] == pytest.approx(0, abs=1e-9 * scale)


def test_effects_of_a_guest_done_by_hand() -> None:
    # off 100; lines 70; cache 90; cache+hold 85; cache+lines 30; all 20
    by = {(): 100, ("lines",): 70, ("cache",): 90, ("cache", "hold"): 85, ("cache", "lines"): 30}
    values = [[float(by.get(tuple(sorted(on)), 20))] * SEEDS for on in distinct()]
    found = ablation.effects(made(values))
    effects = {"+".join(sorted(on)): value for on, value in found.of("total_ms").items()}
    assert effects == pytest.approx(
        {
            "cache": 10,
            "hold": 0,
            "lines": 30,
            "cache+hold": 5,
            "cache+lines": 30,  # 70 saved together, 10 and 30 alone
            "hold+lines": 0,
            "cache+hold+lines": 5,
        }
    )
    assert found.saving("total_ms") == 80
    said = mechanism_sentence(found)
    assert "together save 80% of the bytes on the wire: " in said
    assert "lines on the wire alone saves 30%" in said
    assert "lines on the wire with the cache, beyond each alone, saves 30%" in said
    sheets = ablation_sheets(made(values), found)
    assert sheets[0].rows[0][0] == "none"
    assert len(sheets[1].rows) == 7


def test_the_others_predict_the_seed_that_is_left_out() -> None:
    values = [
        [base * factor for factor in (1.0, 1.1, 0.9, 1.2)] for base in (100, 70, 90, 85, 30, 20)
    ]
    found = made(values)
    said, was = ablation.predicted(found, "bytes", 3)
    assert was == pytest.approx(1.2 * 80)
    assert said == pytest.approx(80)  # the mean of the other three
    shares = ablation.predictions(found)["bytes"]
    assert shares[3] == pytest.approx((80 / 120, 96 / 120))
    assert any("17.8%" in note for note in ablation.notes(found))
