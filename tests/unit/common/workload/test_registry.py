"""The reader of workloads: what is wrong is one line that says what was expected."""

from __future__ import annotations

import pytest

from pageferry.common.errors import UsageError
from pageferry.common.workload.mixes import MIXES
from pageferry.common.workload.options import Option
from pageferry.common.workload.registry import WORKLOADS, Registry, parse_workload
from pageferry.common.workload.spec import Spec


class TestParser:
    @pytest.mark.parametrize(
        ("text", "says"),
        [
            (
                "browsing",
                "unknown workload 'browsing': did you mean web-browsing? There are idle",
            ),
            ("xyzzy", "unknown workload 'xyzzy': expected one of idle, web-browsing"),
            ("", "unknown workload ''"),
            ("idle:rate=1MB/s", "idle has no option 'rate': it has zero-share, entropy"),
            ("matrix-multiply:lines=1", "no option 'lines': it has none"),
            ("uniform:colour=red", "it has working-set, rate, lines, scatter"),
            ("uniform:lnes=3", "no option 'lnes': did you mean lines? It has working-set, rate"),
            ("uniform:lines=mix:rediss", "was measured: did you mean redis?"),
            ("uniform:lines=mix:", "expected one of idle, gcc, python"),
            ("io-intensive:lines=mix:gcc", "'mix:gcc' is not a whole number from 1 to 64"),
            ("uniform:working-set=150%", "expected 0 to 100%"),
            ("uniform:lines", "'lines' is not key=value"),
            ("uniform:", "'' is not key=value"),
            ("uniform:lines=0", "uniform, lines: '0' is not a whole number from 1 to 64"),
            ("uniform:lines=65", "from 1 to 64"),
            ("uniform:lines=two", "from 1 to 64"),
            ("uniform:lines=1,lines=2", "lines is given twice"),
            ("uniform:scatter=yes", "neither true nor false"),
            ("uniform:write-share=120%", "expected 0 to 100%"),
            ("uniform:rate=40", "unknown unit"),
            ("uniform:rate=0.5B/s", "too slow"),
            ("uniform:working-set=4X", "unknown unit"),
            ("zipf:skew=nan", "from 0 to 10"),
            ("web-browsing:think=1us", "expected 1ms to 1h"),
        ],
    )
    def test_bad_usage_is_one_clear_line(self, text: str, says: str) -> None:
        with pytest.raises(UsageError) as error:
            parse_workload(text)
        assert says in str(error.value)
        assert "\n" not in str(error.value)

    def test_values_are_read_as_people_write_them(self) -> None:
        options = parse_workload("zipf:working-set=50%,rate=80mbit,lines=4,scatter=true").options
        assert options["working-set"].share == 0.5
        assert options["rate"] == 1e7
        assert options["lines"] == 4
        assert options["scatter"] is True
        assert options["skew"] == 0.99

    def test_a_mixture_is_read_by_its_name(self) -> None:
        chosen = parse_workload("zipf:lines=mix:redis")
        assert chosen.options["lines"] is chosen.mix is MIXES["redis"]
        assert parse_workload("zipf:lines=4").mix is None

    @pytest.mark.parametrize(
        ("name", "key"), [(s.name, key) for s in WORKLOADS.values() for key in s.options]
    )
    def test_a_default_is_a_value_and_nonsense_is_none(self, name: str, key: str) -> None:
        option = WORKLOADS[name].options[key]
        assert option.meaning
        assert option.reader.form
        assert option.reader.range
        if option.default:
            option.parse(option.default)
        file = "file=x," if name == "trace" and key != "file" else ""
        with pytest.raises(UsageError, match=f"workload {name}, {key}: "):
            parse_workload(f"{name}:{file}{key}=\udc80")


class TestRegistry:
    def test_one_more_is_found_and_a_name_is_taken_once(self) -> None:
        registry = Registry(WORKLOADS.values())
        mine = Spec("mine", "a test", "Nothing.", "a step", "nowhere:Class")
        registry.add(mine)
        assert registry.choose("mine").spec is mine
        with pytest.raises(ValueError, match="mine"):
            registry.add(mine)

    def test_options_of_one_name_are_known_by_the_most_general(self) -> None:
        lines: Option = WORKLOADS.options["lines"]
        assert lines.reader.as_text
