from __future__ import annotations

from pathlib import Path

from rapport.local.stack.process import log_tail


def test_the_tail_of_a_long_log_is_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "long.log"
    log.write_text("".join(f"line {number}\n" for number in range(10_000)))
    lines = log_tail(log).splitlines()
    assert lines == [f"line {number}" for number in range(9_985, 10_000)]


def test_a_log_that_is_no_text_has_a_tail(tmp_path: Path) -> None:
    log = tmp_path / "binary.log"
    log.write_bytes(b"before \xff\xfe after\n")
    assert "before" in log_tail(log)
    assert "after" in log_tail(log)


def test_no_log_has_an_empty_tail(tmp_path: Path) -> None:
    assert log_tail(tmp_path / "none.log") == ""
