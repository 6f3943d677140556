"""Names of formats."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bitlaw.errors import UserError
from bitlaw.formats.grammar import known_names, modules, parse
from bitlaw.formats.integer import IntFormat
from bitlaw.formats.mxint import MxIntFormat


def test_every_name_is_read_back() -> None:
    names = known_names()
    assert len(names) == len(set(names))
    formats = [parse(name) for name in names]
    assert [str(fmt) for fmt in formats] == names
    assert len(set(formats)) == len(names)


def test_names_say_what_a_format_is() -> None:
    assert parse("int4_b64") == IntFormat(bits=4, block=64)
    assert parse("int3_none_sbf16") == IntFormat(bits=3, block="none", scale_dtype="bfloat16")
    assert parse("mxint8_row") == MxIntFormat(bits=8, block="row")
    fmt = parse("mxint4_b32")
    assert (fmt.kind, fmt.element, fmt.bits, fmt.block, fmt.axis) == ("mxint", "mxint4", 4, 32, -1)
    assert (fmt.scale_rule, fmt.scale_dtype, fmt.rounding) == ("floor", "e8m0", "half even")
    assert fmt != parse("int4_b32")


def test_only_the_kinds_own_module_determines_the_values() -> None:
    assert modules("int4_b64") == ("bitlaw.formats.integer",)
    assert modules("mxint4_b64") == ("bitlaw.formats.mxint",)


@pytest.mark.parametrize(
    "name",
    ["", "int", "int4", "int4_", "INT4_b64", "int4_b064", "int4_b48", "int4_b8", "int4_b8192", "int1_b64", "int9_b64"]
    + ["int4_b64_", "int4_b64_sf16", "int4_64", "int4_b64_sf32_sf32", "mxint4_b32_sf32", "int4b64", "int44_b64"],
)
def test_other_names_are_user_errors(name: str) -> None:
    with pytest.raises(UserError, match="unknown number format"):
        parse(name)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'mxint4_b32'"):
        parse("mxnt4_b32")


@pytest.mark.parametrize("wrong", [{"bits": 9}, {"bits": 1}, {"block": 48}, {"scale_dtype": "float64"}])
def test_a_format_that_has_no_name_cannot_be_made(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no such format"):
        IntFormat(**{"bits": 4, "block": 64, **wrong})  # type: ignore[arg-type]


def test_planning_needs_no_torch() -> None:
    code = (
        "import sys; from bitlaw.formats.grammar import known_names; from bitlaw.methods import METHODS;"
        "from bitlaw.stages.quantize import STAGE;"
        "known_names(); [METHODS[name].Settings() for name in METHODS];"
        "STAGE.code({'format': 'int4_b64', 'method': 'gptq', 'settings': {}});"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'pandas', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
