"""Rules for the values of configuration dataclasses, in plain Python: the models use them too.

A rule takes a value and returns what is wrong with it, as the rest of a sentence that starts with the field and the
value ("is not at least 1"), or None where nothing is.
"""

import contextlib
import dataclasses
import difflib
import functools
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Literal, get_args, get_origin, get_type_hints

from vrwkv_jax.system.errors import UserError, not_utf8, quoted

Rule = Callable[[Any], str | None]
rule_maker = functools.lru_cache(maxsize=None, typed=True)
"""Decorates what makes rules: the same arguments give the same rule, for configurations are checked all the time."""


class FieldErrors(UserError):
    """Fields of a configuration have values they cannot have.

    ``problems`` maps the name of each such field to its value and to what is wrong with it.
    """

    def __init__(self, problems: dict[str, tuple[Any, str]]):
        self.problems = problems
        super().__init__(
            "; ".join(f"{name} {quoted(value)} {complaint}" for name, (value, complaint) in problems.items())
        )


_postponed: ContextVar[dict[str, tuple[Any, str]] | None] = ContextVar("_postponed", default=None)


@contextlib.contextmanager
def checks_postponed() -> Iterator[dict[str, tuple[Any, str]]]:
    """Collect the problems that ``check_fields`` finds instead of raising them.

    So a command line is told all that is wrong with it, not only with the section that is built first.
    """
    problems: dict[str, tuple[Any, str]] = {}
    token = _postponed.set(problems)
    try:
        yield problems
    finally:
        _postponed.reset(token)


def check_fields(config: object, **rules: Rule) -> None:
    """Hold the fields of ``config`` against their rules; raise one ``FieldErrors`` that lists every breach.

    Those that are not named here are held against their types where these say all: choices, and true or false.
    """
    problems = {}
    for name, rule in (_rules_of_types(type(config)) | rules).items():
        value = getattr(config, name)
        try:
            complaint = rule(value)
        except TypeError:  # a comparison with a value of the wrong type, which only Python code can pass
            complaint = f"is of the wrong type ({type(value).__name__})"
        if complaint:
            problems[name] = (value, complaint)
    collected = _postponed.get()
    if collected is not None:
        collected |= problems
    elif problems:
        raise FieldErrors(problems)


def _rules_of_types(kind: type) -> dict[str, Rule]:
    """The rules of the fields of a dataclass that follow from their types."""
    hints = get_type_hints(kind) if dataclasses.is_dataclass(kind) else {}
    return {name: rule for name, hint in hints.items() if (rule := _rule_of_type(hint))}


def _rule_of_type(hint: Any) -> Rule | None:
    if hint is bool:
        return flag
    if get_origin(hint) is Literal:
        return one_of(*get_args(hint))
    if get_origin(hint) is tuple and get_origin(get_args(hint)[0]) is Literal:
        return distinct(one_of(*get_args(get_args(hint)[0])))
    return None


def check_value(name: str, value: object, rule: Rule) -> None:
    """``check_fields`` of one value, such as an argument."""
    if complaint := rule(value):
        raise FieldErrors({name: (value, complaint)})


def nearest(name: str, names: list[str]) -> str | None:
    """The one of ``names`` that ``name`` is most likely a slip of, or None when it resembles none."""
    return next(iter(difflib.get_close_matches(name, names, n=1)), None)


@rule_maker
def at_least(low: int | float) -> Rule:
    return _number(lambda value: value >= low, f"is not at least {low}")


@rule_maker
def above(low: int | float) -> Rule:
    return _number(lambda value: value > low, f"is not above {low}")


@rule_maker
def between(low: int | float, high: int | float) -> Rule:
    return _number(lambda value: low <= value <= high, f"is not between {low} and {high}")


def _number(holds: Callable[[Any], bool], complaint: str) -> Rule:
    def rule(value: Any) -> str | None:
        if not math.isfinite(value):
            return "is not a finite number"
        return None if holds(value) else complaint

    return rule


@rule_maker
def multiple_of(unit: int) -> Rule:
    """A positive multiple of ``unit``; the complaint names the multiples on either side."""

    def rule(value: Any) -> str | None:
        if value > 0 and value % unit == 0:
            return None
        below = value // unit * unit
        choices = f"{below} or {below + unit}" if below > 0 else f"{unit} or more"
        return f"is not a {'multiple' if value > 0 else 'positive multiple'} of {unit}: use {choices}"

    return rule


@rule_maker
def one_of(*choices: str) -> Rule:
    def rule(value: Any) -> str | None:
        if value in choices:
            return None
        guess = nearest(value, list(choices)) if isinstance(value, str) else None
        return f"is not one of {', '.join(choices)}" + (f": did you mean {guess}?" if guess else "")

    return rule


def flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "is not True or False"


def text(value: Any) -> str | None:
    if not isinstance(value, str):
        return "is not text"
    if not_utf8(value):
        return "is not UTF-8, in which settings are kept: rename the file, or type it in another terminal"
    return None if value.strip() else "is empty"


def default_shown(default: str) -> str:
    """What ``--help`` says of a default; Python's word for a setting that is not set would look like a value."""
    return "(not set)" if default == "None" else f"(default: {default})"


def optional(rule: Rule) -> Rule:
    return lambda value: None if value is None else rule(value)


@rule_maker
def distinct(rule: Rule) -> Rule:
    """A tuple whose items keep ``rule`` and differ from each other."""

    def check(values: Any) -> str | None:
        if not isinstance(values, tuple):
            return f"is not a tuple: write ({quoted(values)},)"
        for value in values:
            if complaint := rule(value):
                return f"is wrong: {quoted(value)} {complaint}"
        twice = [value for value in dict.fromkeys(values) if values.count(value) > 1]
        return f"names {quoted(twice[0])} twice: once is enough" if twice else None

    return check
