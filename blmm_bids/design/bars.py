"""Split lme4's random-effects bars from the fixed part of a formula."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blmm_bids.design.tokens import Token, formula_error, tokenize
from blmm_bids.errors import ModelSpecError

_BARS = ("|", "||")


@dataclass(frozen=True)
class Bar:
    """One random-effects term, ``(effects | group)``.

    Attributes
    ----------
    effects : str
        Left side, a formula with its implied intercept: ``"1 + age"``, ``"0 + age"``.
    group : str
        Grouping factor, ``"subject"`` or the interaction ``"site:family"``.
    correlated : bool
        Whether the effects covary; False for ``||``.
    """

    effects: str
    group: str
    correlated: bool = True

    def __str__(self) -> str:
        """Write the bar as lme4 would."""
        return f"({self.effects} {'|' if self.correlated else '||'} {self.group})"

    @property
    def group_names(self) -> tuple[str, ...]:
        """Columns whose combinations are the levels of the grouping factor."""
        return tuple(token.text for token in tokenize(self.group) if token.kind != "operator")


def split_response(formula: str) -> tuple[str, str]:
    """Split ``y ~ rest``.

    Parameters
    ----------
    formula : str
        Formula with or without a left side.

    Returns
    -------
    tuple of str
        The left side's name, empty without one, and the rest.

    Raises
    ------
    ModelSpecError
        A left side that is more than one name, or more than one tilde.
    """
    tokens = tokenize(formula)
    tildes = [index for index, token in enumerate(tokens) if token.text == "~" and token.kind == "operator"]
    if not tildes:
        return "", formula
    if len(tildes) > 1:
        raise formula_error(formula, tokens[tildes[1]].start, "formula has more than one '~'")
    left = tokens[: tildes[0]]
    if len(left) > 1 or (left and left[0].kind not in ("name", "quoted")):
        msg = "the left side of '~' may only be a name: the images are the response, untransformed"
        raise formula_error(formula, left[0].start, msg)
    return (left[0].text if left else ""), formula[tokens[tildes[0]].end :].strip()


def split_bars(formula: str) -> tuple[str, tuple[Bar, ...]]:
    """Take the bars out of a formula.

    Parameters
    ----------
    formula : str
        For instance ``"age + sex + (1 + age | subject) + (1 | site/scanner)"``.

    Returns
    -------
    fixed : str
        The formula without its bars, ``"1"`` where nothing remains.
    bars : tuple of Bar
        In the order written; ``(1 | a/b)`` gives ``(1 | a)`` and ``(1 | a:b)``.

    Raises
    ------
    ModelSpecError
        A bar that is not added with ``+``, stands outside parentheses or has an empty side.

    Notes
    -----
    Equivalent to lme4's ``nobars`` and ``findbars`` with ``expandSlash``; ``||`` is kept as written.
    """
    tokens = tokenize(formula)
    for token in tokens:
        if token.text == "~":
            raise formula_error(formula, token.start, "a '~' cannot stand here; the images are the response")
    fixed, bars = _split(formula, tokens)
    return fixed or "1", tuple(bars)


def parse_bar(text: str) -> tuple[Bar, ...]:
    """Read one entry of ``RandomEffects``.

    Parameters
    ----------
    text : str
        ``"(1 + age | subject)"``, with or without the parentheses.

    Returns
    -------
    tuple of Bar
        Several where the entry has ``a/b`` or several bars.

    Raises
    ------
    ModelSpecError
        An entry without a bar, or with fixed effects.
    """
    tokens = tokenize(text)
    if _bar_index(tokens) is not None:
        text, tokens = f"({text})", tokenize(f"({text})")
    if not any(token.text in _BARS for token in tokens):
        msg = f"RandomEffects entry '{text}' has no bar; write for instance '(1 | subject)'"
        raise ModelSpecError(msg)
    fixed, bars = _split(text, tokens)
    if fixed:
        msg = f"RandomEffects entry '{text}' has the fixed effects '{fixed}'; these belong in Formula"
        raise ModelSpecError(msg)
    return tuple(bars)


def _split(formula: str, tokens: Sequence[Token]) -> tuple[str, list[Bar]]:
    """Split a sum of terms, recursing into parentheses that hold nothing but a sum with bars."""
    fixed = ""
    bars: list[Bar] = []
    for sign, term in _additive_terms(formula, tokens):
        first = next((token for token in term if token.text in _BARS and token.kind == "operator"), None)
        if first is None:
            fixed += _signed(sign, _text(formula, term), is_first=not fixed)
            continue
        if not _is_enclosed(term):
            msg = "write a random-effects bar in parentheses and add it with '+', as in 'age + (1 | subject)'"
            raise formula_error(formula, first.start, msg)
        if sign and sign.text == "-":
            raise formula_error(formula, sign.start, "a random-effects bar can only be added, not subtracted")
        inner = term[1:-1]
        if _bar_index(inner) is not None:
            bars.extend(_read_bar(formula, inner))
            continue
        inner_fixed, inner_bars = _split(formula, inner)
        bars.extend(inner_bars)
        if inner_fixed:
            fixed += _signed(sign, f"({inner_fixed})", is_first=not fixed)
    return fixed, bars


def _signed(sign: Token | None, text: str, *, is_first: bool) -> str:
    if is_first:
        return f"-{text}" if sign is not None and sign.text == "-" else text
    return f" {sign.text if sign else '+'} {text}"


def _additive_terms(formula: str, tokens: Sequence[Token]) -> list[tuple[Token | None, list[Token]]]:
    """Cut at the signs of depth 0 that follow an operand; a bar of depth 0 keeps its term whole."""
    terms: list[tuple[Token | None, list[Token]]] = []
    sign: Token | None = None
    term: list[Token] = []
    depth = 0
    for token in tokens:
        depth += (token.kind == "open") - (token.kind == "close")
        if depth == 0 and token.kind == "operator" and token.text in "+-":
            if term:
                terms.append((sign, term))
            elif sign is not None:
                raise formula_error(formula, token.start, "formula has two signs in a row")
            sign, term = token, []
        else:
            term.append(token)
    if term:
        terms.append((sign, term))
    elif sign is not None:
        raise formula_error(formula, sign.start, f"formula ends with a '{sign.text}'")
    return terms


def _is_enclosed(tokens: Sequence[Token]) -> bool:
    """Whether one pair of parentheses holds all of the tokens."""
    if not tokens or tokens[0].kind != "open":
        return False
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.kind == "open") - (token.kind == "close")
        if depth == 0:
            return index == len(tokens) - 1
    return False


def _bar_index(tokens: Sequence[Token]) -> int | None:
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.kind == "open") - (token.kind == "close")
        if depth == 0 and token.kind == "operator" and token.text in _BARS:
            return index
    return None


def _read_bar(formula: str, tokens: Sequence[Token]) -> list[Bar]:
    index = _bar_index(tokens)
    assert index is not None  # noqa: S101 -- callers looked
    bar = tokens[index]
    left, right = tokens[:index], tokens[index + 1 :]
    again = next((token for token in right if token.text in _BARS and token.kind == "operator"), None)
    if again is None:
        again = next((token for token in left if token.text in _BARS and token.kind == "operator"), None)
    if again is not None:
        raise formula_error(formula, again.start, "a random-effects term has one bar, '(effects | group)'")
    if not left:
        raise formula_error(
            formula, bar.start, "the bar has no effects on its left; write '1' for an intercept"
        )
    if not right:
        raise formula_error(formula, bar.start, "the bar has no grouping factor on its right")
    effects = _text(formula, left)
    return [Bar(effects, group, correlated=bar.text == "|") for group in _groups(formula, right)]


def _groups(formula: str, tokens: Sequence[Token]) -> list[str]:
    """Expand ``a/b`` into ``a`` and ``a:b``; the names of an interaction keep their order."""
    while _is_enclosed(tokens):
        tokens = tokens[1:-1]
    nested: list[list[str]] = [[]]
    for position, token in enumerate(tokens):
        is_name = token.kind in ("name", "quoted")
        if is_name != (position % 2 == 0) or not (is_name or token.text in (":", "/")):
            msg = (
                "a grouping factor is a column or columns joined by ':' or '/', as in 'site' or 'site/family'"
            )
            raise formula_error(formula, token.start, msg)
        if is_name:
            nested[-1].append(quote_name(token.text))
        elif token.text == "/":
            nested.append([])
    if not tokens or tokens[-1].kind == "operator":
        where = tokens[-1].start if tokens else len(formula) - 1
        raise formula_error(formula, where, "a column name is missing in the grouping factor")
    groups: list[str] = []
    for names in nested:
        groups.append(":".join(([groups[-1]] if groups else []) + names))
    return groups


def quote_name(name: str) -> str:
    """Write a column's name as a formula has it: in backticks unless it is a plain name.

    Parameters
    ----------
    name : str
        Column name.

    Returns
    -------
    str
        Name that the tokenizer reads back as one operand.

    Raises
    ------
    ModelSpecError
        A name that holds a backtick or is empty: a formula cannot say it.
    """
    if "`" in name or not name:
        msg = f"column '{name}' cannot be used in a formula: rename it (no backticks, not empty)"
        raise ModelSpecError(msg)
    head, _, tail = name.partition(".")
    is_plain = head.isidentifier() and (not tail or all(part.isidentifier() for part in tail.split(".")))
    return name if is_plain else f"`{name}`"


def _text(formula: str, tokens: Sequence[Token]) -> str:
    return formula[tokens[0].start : tokens[-1].end]
