"""Counts what a lowered program calls, loops over and branches on."""

import re
from collections import Counter
from functools import cache
from typing import Any

import jax


def calls_and_branches(lowered: jax.stages.Lowered) -> Counter[str]:
    """How often the program calls each custom call, by its target, and has each loop and conditional, by its name.

    A function counts as often as it is called; a loop's body and every branch of a conditional count once.
    """
    functions = {op.attributes["sym_name"].value: op for op in lowered.compiler_ir("stablehlo").body.operations}

    @cache
    def within(function: str) -> Counter[str]:
        return inside(functions[function].operation)

    def inside(operation: Any) -> Counter[str]:
        found: Counter[str] = Counter()
        for inner in (op.operation for region in operation.regions for block in region for op in block):
            if inner.name == "func.call":
                found += within(inner.attributes["callee"].value)
            elif inner.name == "stablehlo.custom_call":
                found[inner.attributes["call_target_name"].value] += 1
            elif inner.name in ("stablehlo.while", "stablehlo.case", "stablehlo.if"):
                found[re.search(r'"(.*?)"', str(inner.location))[1]] += 1
            found += inside(inner)
        return found

    return within("main")
