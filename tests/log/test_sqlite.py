"""What is particular to the log on SQLite; what every log does is in `test_contract.py`."""

from __future__ import annotations

from pathlib import Path

from bizcode.log.sqlite import open_log
from bizcode.record import Draft


def test_reopened_log_has_what_was_written(tmp_path: Path) -> None:
    log = open_log(tmp_path / "acme")
    log.append([Draft("event", "Signup", 1, "{}")])
    store = log.store_id
    log.close()
    again = open_log(tmp_path / "acme")
    assert (again.head(), again.store_id) == (1, store)
    assert again.position_of(f"{store}-1") == 1
    again.close()
