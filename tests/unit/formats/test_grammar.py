"""Names of formats."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bitlaw.errors import UserError
from bitlaw.formats.grammar import expand, known_names, modules, parse
from bitlaw.formats.scales import E8M0, Absmax


def test_every_name_is_read_back() -> None:
    names = known_names()
    assert len(names) == len(set(names))
    formats = [parse(name) for name in names]
    assert [str(fmt) for fmt in formats] == names
    assert len(set(formats)) == len(names)


def test_names_say_what_a_format_is() -> None:
    fmt = parse("int3_none_sbf16_centered")
    assert (fmt.kind, fmt.element.name, fmt.bits, fmt.block, fmt.axis) == ("integer", "int3", 3, "none", -1)
    assert fmt.rule == Absmax("bfloat16", divisor=3.0, top=3.0)
    assert fmt.centered and not parse("int3_none_sbf16").centered
    fmt = parse("mxint4_b32")
    assert (fmt.kind, fmt.element.name, fmt.bits, fmt.block, fmt.axis) == ("mxint", "mxint4", 4, 32, -1)
    assert (fmt.scale_rule, fmt.scale_dtype, fmt.rounding) == ("floor", "e8m0", "half even")
    assert fmt != parse("int4_b32") and fmt != parse("mxint4_b32_even")
    fmt = parse("mxfp8_e4m3_row_rceil")
    assert fmt.rule == E8M0("e8m0", "rceil", emax=8, mantissa_bits=3, top=448.0)
    assert (fmt.element.top, fmt.zero_policy, fmt.nan_policy) == (448.0, "zeros", "block is NaN")
    assert parse("int4_g128_asym").block == 128
    assert [parse(f"int4_g128_{word}").element.signed for word in ("sym", "asym", "awqsym", "awq")] == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("bits", "name"), [(3, "e2m0"), (4, "e2m1"), (5, "e3m1"), (6, "e3m2"), (7, "e4m2"), (8, "e4m3")]
)
def test_a_float_without_exponent_bits_has_those_of_the_paper(bits: int, name: str) -> None:
    assert str(parse(f"fp{bits}_b64_sf32")) == f"fp{bits}_{name}_b64_sf32"


def test_the_formats_of_the_three_papers_are_there() -> None:
    names = set(known_names())
    for block in ("b32", "b64", "b128", "b256", "b512", "b1024", "b2048", "b4096", "row", "none"):
        for bits in range(2, 9):
            assert {f"{word}{bits}_{block}" for word in ("int", "dyn", "quantile")} <= names
            assert {f"{word}{bits}_{block}_centered" for word in ("int", "dyn", "quantile")} <= names
            assert sum(name.startswith(f"fp{bits}_") and name.endswith(f"_{block}") for name in names) == bits - 1
    elements = [
        "mxfp4_e2m1",
        "mxfp6_e2m3",
        "mxfp6_e3m2",
        "mxfp8_e4m3",
        "mxfp8_e5m2",
        *(f"mxint{k}" for k in range(2, 9)),
    ]
    rules = ("", "_even", "_rceil", "_ceil")
    assert {f"{e}_b{block}{rule}" for e in elements for block in (16, 32, 64, 128) for rule in rules} <= names
    assert {"nf4_b64", "bnbfp4_b64", "nvfp4_b16", "ternary_none", "int4_g128_sym", "int4_g128_asym"} <= names


def test_only_the_kinds_own_module_determines_the_values() -> None:
    assert modules("int4_b64") == ("bitlaw.formats.integer",)
    assert modules("mxint4_b64") == ("bitlaw.formats.mxint",)


@pytest.mark.parametrize(
    "name",
    ["", "int", "int4", "int4_", "INT4_b64", "int4_b064", "int4_b48", "int4_b8", "int4_b8192", "int1_b64", "int9_b64"]
    + [
        "int4_b64_",
        "int4_b64_sf16",
        "int4_b64_centered_sf32",
        "int4_g128",
        "int4_b128_sym",
        "nvfp4_b32",
        "fp4_e4m0_b64",
        "int4_64",
        "int4_b64_sf32_sf32",
        "mxint4_b32_sf32",
        "int4b64",
        "int44_b64",
    ],
)
def test_other_names_are_user_errors(name: str) -> None:
    with pytest.raises(UserError, match="unknown number format"):
        parse(name)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'mxint4_b32'"):
        parse("mxnt4_b32")


def test_planning_needs_no_torch() -> None:
    code = (
        "import sys; from bitlaw.formats.grammar import known_names; from bitlaw.methods import METHODS;"
        "from bitlaw.stages.quantize import STAGE;"
        "known_names(); [METHODS[name].Settings() for name in METHODS];"
        "STAGE.code({'format': 'int4_b64', 'method': 'gptq', 'settings': {}});"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'pandas', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_braces_stand_for_several_names() -> None:
    assert expand("int4_b64") == ["int4_b64"]
    assert expand("mxint{2..3}_b{32,64}") == ["mxint2_b32", "mxint2_b64", "mxint3_b32", "mxint3_b64"]
    assert expand("{int,dyn}4_row{,_sf32}") == ["int4_row", "int4_row_sf32", "dyn4_row", "dyn4_row_sf32"]
    for text in ("int{3,4_b64", "int3}_b64", "int{3,{4,5}}_b64"):
        with pytest.raises(UserError, match="brace"):
            expand(text)
