"""``import texpr as te``."""

from __future__ import annotations

import subprocess
import sys

import pytest

import texpr as te


def test_import_and_tracing_need_neither_numpy_nor_islpy() -> None:
    program = (
        "import sys, texpr as te\n"
        "assert not {'numpy', 'islpy', 'triton', 'texpr.lang'} & set(sys.modules)\n"
        "@te.algorithm('x: T[M, N] -> y: T[M]', T=('f16', 'f32'))\n"
        "def rows(x, y):\n"
        "    i, j = te.axes(i='M', j='N')\n"
        "    y[i] = te.sum(te.exp(x[i, j] * 0.5), over=j)\n"
        "rows.bind({'T': 'f16'})\n"
        "assert not {'numpy', 'islpy', 'triton'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", te.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(te, name) is not None


def test_unknown_and_later_names() -> None:
    with pytest.raises(AttributeError, match=r"no 'sumo'$"):
        te.sumo  # noqa: B018
    with pytest.raises(AttributeError, match="no 'scatter' yet"):
        te.scatter  # noqa: B018
