"""Any program: no format is ruled out, and what loads it is the user's question."""

from __future__ import annotations

from bitlaw.advise.engine import Engine, Loads

ENGINE = Engine(
    title="any",
    loads=(
        Loads(
            (
                "int{2,3,4,5,6,8}_g128_asym",
                "int{2,3,4,5,6,8}_g128_sym",
                "int{2,3,4,5,6,8}_b64",
                "int{3,4,8}_row_asym",
                "mxint{2,3,4,5,6,8}_b32",
                "mxfp4_e2m1_b32",
                "mxfp6_e2m3_b32",
                "mxfp8_e4m3_b32",
                "nvfp4_b16",
                "nf4_b64",
                "fp{3,4,5,6}_b64",
            ),
            "not said: no program was named",
            "bitlaw's own formats; `bitlaw export` writes those without a packed layout as ordinary weights",
        ),
    ),
    every=True,
)
