"""What is asked for: everything that is wrong with it is said before anything is done."""

from __future__ import annotations

import shutil
import socket
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronos_export import export
from chronos_export.artifact.naming import default_output
from chronos_export.engine.choice import EngineOptions
from chronos_export.errors import MachineError, UsageError
from chronos_export.exporting.request import Request, check, check_rows, parse_batch, prepare, preview
from chronos_export.graph.dtypes import ALIASES, DTYPES, dtype_named
from chronos_export.graph.precision import PRECISIONS, precision_of
from chronos_export.progress import ignore
from tests.helpers.engines import needs_rtx, without_gpu


def test_batch_is_parsed() -> None:
    assert parse_batch("100") == (100,)
    assert parse_batch("2000, 100") == (100, 2000)


@pytest.mark.parametrize(
    "text", ["", "0", "abc", "100,100", "-1", "1.5", "100,", "1_000", "+5", "٣", "1e3", "9" * 30]
)
def test_batch_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_batch(text)
    assert caught.value.summary.startswith(f"--batch {text}: ")
    assert "100,2000" in caught.value.allowed


@given(st.lists(st.integers(1, 10**9 - 1), min_size=1, unique=True))
def test_any_row_counts_are_taken_in_any_order(rows: list[int]) -> None:
    wanted = tuple(sorted(rows))
    assert parse_batch(",".join(map(str, rows))) == wanted
    assert check_rows(rows) == check_rows(np.array(rows)) == check_rows(iter(rows)) == wanted


@pytest.mark.parametrize(
    "batch", ["100", b"100", 100, 0, (0,), (-5,), (100, 100), (1.0,), ("3",), (True,), (None,), (10**9,)]
)
def test_the_api_checks_what_the_command_line_checks(batch: Any, toy: Path, tmp_path: Path) -> None:
    """`export(batch="100")` once published profiles of 1, 0 and 0 rows."""
    with pytest.raises(UsageError, match="batch") as caught:
        export(str(toy), batch, tmp_path / "made")
    assert "100,2000" in caught.value.allowed
    assert "batch=(100,)" in caught.value.fix
    assert list(tmp_path.iterdir()) == []


# ---- names ----


@pytest.mark.parametrize(
    ("source", "name"),
    [("amazon/chronos-2", "chronos-2"), ("demo", "demo"), ("/somewhere/mine/", "mine")],
)
def test_default_output(source: str, name: str) -> None:
    assert default_output(source) == Path(name)
    assert default_output(source, (100, 2000)) == Path(f"{name}-b100-2000")


def test_default_output_of_what_is_in_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never the checkpoint's own folder."""
    monkeypatch.chdir(tmp_path)
    assert default_output(".") == Path(tmp_path.name)
    assert default_output(".", (1,)) == Path(f"{tmp_path.name}-b1")
    assert default_output("mine") == default_output("./mine/") == Path("mine-exported")
    assert default_output("mine", (1,)) == Path("mine-b1")


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_aliases_of_dtypes(alias: str, name: str) -> None:
    assert dtype_named(alias) == name
    assert precision_of(alias) is PRECISIONS[name]
    assert tuple(PRECISIONS) == DTYPES


# ---- refusals before the work, the same for --dry-run and for the export ----


def asked(toy: Path, tmp_path: Path, **options: Any) -> Request:
    return Request(**{"source": str(toy), "output": tmp_path / "made", **options})


def test_what_stands_in_no_way(toy: Path, tmp_path: Path) -> None:
    plan = check(asked(toy, tmp_path, dtype="fp32"))
    assert (plan.request.dtype, plan.profiles, plan.target) == ("float32", (), tmp_path / "made")
    shown = preview(plan)
    assert (shown["d_model"], shown["adapter"], shown["replaces"]) == (6, False, False)
    assert list(tmp_path.iterdir()) == []


@without_gpu
def test_row_counts_without_an_engine_make_no_profiles(toy: Path, tmp_path: Path) -> None:
    plan = check(asked(toy, tmp_path, batch=(20, 5)))
    assert (plan.request.batch, plan.profiles, plan.runtime) == ((5, 20), (), None)


@needs_rtx
def test_row_counts_are_the_profiles_of_an_engine(toy: Path, tmp_path: Path) -> None:
    plan = check(asked(toy, tmp_path, batch=(20, 5), engine=EngineOptions("tensorrt-rtx")))
    assert (plan.profiles, plan.runtime) == ((5, 20), "tensorrt-rtx")


@needs_rtx
@pytest.mark.parametrize(("name", "limit"), [("context", 8192), ("horizon", 1024)])
@pytest.mark.parametrize("beyond", [0, -3, 1])
def test_limits_of_the_model(toy: Path, tmp_path: Path, name: str, limit: int, beyond: int) -> None:
    engine = EngineOptions("tensorrt-rtx", **{name: limit + 1 if beyond == 1 else beyond})
    with pytest.raises(UsageError, match=f"--{name} -?[0-9]+ is outside") as caught:
        check(asked(toy, tmp_path, batch=(3,), engine=engine))
    assert caught.value.allowed == f"1 to {limit} time steps"
    check(asked(toy, tmp_path, batch=(3,), engine=EngineOptions("tensorrt-rtx", **{name: limit})))


Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("dtype", "bytes_each"), [("float32", 4), ("fp16", 2), ("int8", 1)])
def test_a_disk_without_room(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, bytes_each: int
) -> None:
    """The graphs hold every weight, so less than that cannot do."""
    least = (toy / "model.safetensors").stat().st_size * bytes_each // 4
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, least))
    check(asked(toy, tmp_path, dtype=dtype))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, least - 1))
    with pytest.raises(MachineError, match="is full: the artifact takes"):
        check(asked(toy, tmp_path, dtype=dtype))


def test_narrow_types_need_the_real_series(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "statsmodels", None)
    check(asked(toy, tmp_path))
    with pytest.raises(MachineError, match="statsmodels, which is not installed"):
        check(asked(toy, tmp_path, dtype="fp16"))


def test_what_is_here_costs_no_network(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", None)
    assert prepare(asked(toy, tmp_path), ignore).known["d_model"] == 6
