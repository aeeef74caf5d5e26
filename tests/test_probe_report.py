"""The picture of a measurement: its parts, read back from the files."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from netsvc.probe.probe_dialects import ReflectedTimes
from netsvc.probe.probe_record import ProbeRecord
from netsvc.probe.probe_report import TARGETS_MAX, ReportedTarget, ReportError, duration_text, write_report
from netsvc.probe.probe_schedule import ProbeSchedule
from netsvc.probe.probe_target import ProbeTarget

MS = 1_000_000


def measured(name: str = "host<1>", *, answers: int = 50, lost: int = 5, outage: range = range(0)) -> ReportedTarget:
    """Return what a STAMP target has told: round trips of 1 to 2 ms, and losses at the end and in an outage."""
    schedule = ProbeSchedule(0, 10 * MS, count=answers + lost)
    record = ProbeRecord(ProbeTarget("stamp", name, 862), "192.0.2.1:862", schedule, 100 * MS)
    for sequence in range(answers + lost):
        due = schedule.time_of(sequence)
        record.sent(sequence, due, due)
        if sequence < answers and sequence not in outage:
            rtt = MS + sequence * 20_000
            times = ReflectedTimes(sequence, due + rtt // 2, due + rtt // 2, False, 1.0, 64)
            record.answered(sequence, due + rtt, "kernel", 0, times=times)
    record.advance(10_000 * MS)
    return ReportedTarget(record.total(10_000 * MS), record.series, record.buckets())


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()).strip() for node in ET.fromstring(svg).iter() if node.tag.endswith("}text")]


def test_a_picture_has_the_course_the_histogram_and_the_percentiles_of_each_target(tmp_path: Path) -> None:
    file = tmp_path / "report.svg"
    write_report(str(file), [measured(), measured("other")])
    found = texts(file.read_text())
    assert "stamp/host<1>:862: 55 probes in 10 s, 5 lost (9.09%), there 0, back 0" in found
    for title in ("how many took how long", "percentiles", "there, change", "back, change", "lost"):
        assert found.count(title) == 2
    assert [*tmp_path.iterdir()] == [file]


def test_the_line_is_interrupted_where_no_probe_was_answered(tmp_path: Path) -> None:
    file = tmp_path / "report.svg"
    lines = []
    for outage in (range(0), range(20, 30)):
        write_report(str(file), [measured(lost=0, outage=outage)])
        paths = [node for node in ET.fromstring(file.read_text()).iter() if node.tag.endswith("}path")]
        mean = next(path for path in paths if "stroke: #0072b2; stroke-width: 1.2" in path.get("style", ""))
        lines.append(mean.get("d", "").count("M"))
    assert lines == [1, 2]


def test_a_change_of_zero_is_drawn_at_zero(tmp_path: Path) -> None:
    file = tmp_path / "report.svg"
    write_report(str(file), [measured(answers=1, lost=0)])
    assert "1 ns" not in texts(file.read_text())
    assert "0" in texts(file.read_text())


def test_the_same_measurement_gives_the_same_picture(tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        write_report(str(tmp_path / name), [measured()])
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_a_page_is_one_file_with_the_picture_and_the_numbers(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    write_report(str(file), [measured()])
    page = file.read_text()
    assert page.count("<svg") == 1
    assert "<td>stamp/host&lt;1&gt;:862</td><td>55</td><td>50</td><td>5</td><td>9.09%</td>" in page
    assert not re.search(r"<script|(?:src|href)=\"(?!#)http", page)


def test_a_picture_of_pixels_is_a_png(tmp_path: Path) -> None:
    file = tmp_path / "report.PNG"
    write_report(str(file), [measured()])
    assert file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("answers", "lost"), [(0, 3), (1, 0), (2, 1)])
def test_a_measurement_with_few_answers_or_none_has_a_picture(tmp_path: Path, answers: int, lost: int) -> None:
    file = tmp_path / "report.svg"
    write_report(str(file), [measured(answers=answers, lost=lost)])
    assert ("no answer" in texts(file.read_text())) is (answers == 0)


def test_targets_that_have_no_room_are_mentioned(tmp_path: Path) -> None:
    file = tmp_path / "report.svg"
    write_report(str(file), [measured(str(number), answers=2) for number in range(TARGETS_MAX + 2)])
    assert "2 further targets are not shown" in texts(file.read_text())


def test_a_file_that_cannot_be_written_is_an_error_of_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(ReportError, match="this is a folder; name a file in it"):
        write_report(str(tmp_path / "folder.svg"), [measured()])
    assert [path.name for path in tmp_path.iterdir()] == ["folder.svg"]
    with pytest.raises(ReportError, match=r"report.pdf: the name has to end with .svg, .png or .html"):
        write_report(str(tmp_path / "report.pdf"), [measured()])


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0"), (0.5, "0.5 ns"), (12_345, "12.3 us"), (-3_500_000, "-3.5 ms"), (2_000_000_000, "2 s")],
)
def test_a_duration_has_the_unit_that_fits(nanoseconds: float, text: str) -> None:
    assert duration_text(nanoseconds) == text
