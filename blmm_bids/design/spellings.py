"""The names that users have for columns of a design: formulaic's own, and those of other software.

``sex[T.M]`` is ``sex.M`` for pybids, ``sexM`` for R, ``C(sex)[T.M]`` or ``sex[M]`` for patsy. Such a name is
taken where it means exactly one column; that of the reference level, which has none, is refused with its
reason.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product

from blmm_bids.design.columns import enumerate_names
from blmm_bids.design.formula import INTERCEPT, CodedFactor
from blmm_bids.errors import ModelSpecError

Terms = Mapping[str, tuple[str, ...]]

_INTERCEPTS = ("intercept", "(Intercept)", "(intercept)", "Constant", "constant")
_ONE = "1"
_CODERS = ("C({})", "factor({})", "as.factor({})")
_MAX_READINGS = 100
"""Most readings of one name that are looked at; a name of ten factors could have thousands."""

_OPENING, _CLOSING = "([{", ")]}"


@dataclass(frozen=True)
class _Piece:
    """One factor's part in a column's name.

    Attributes
    ----------
    variable : str
        Variable, or the text of a factor that is not coded.
    coding : str
        ``"T."`` for treatment, what stands before the level for another coding; empty for a column a level.
    level : str
        Level; empty where the factor is not coded.
    has_column : bool
        False for the reference level.
    """

    variable: str
    coding: str = ""
    level: str = ""
    has_column: bool = True


class ColumnNames:
    """The columns and terms of a design, by any name that means one of them.

    Parameters
    ----------
    columns : sequence of str
        Names of the columns of X.
    terms : mapping of str to tuple of str
        Term name to its columns.
    coded : sequence of CodedFactor
        The categorical factors; without them only the columns' own names are known.
    """

    def __init__(self, columns: Sequence[str], terms: Terms, coded: Sequence[CodedFactor] = ()) -> None:
        self.columns, self.terms = tuple(columns), terms
        self.read_as: dict[str, str] = {}
        self._factors = {factor.name: factor for factor in coded}
        self._pieces: dict[str, set[_Piece]] = defaultdict(set)
        self._safe: set[str] = set()
        self._by_pieces: dict[frozenset[_Piece], list[str]] = defaultdict(list)
        for column in self.columns:
            pieces = [self._piece(part) for part in split_interaction(column)]
            self._by_pieces[frozenset(pieces)].append(column)
            for part, piece in zip(split_interaction(column), pieces, strict=True):
                self._add(part, piece)
        for factor in coded:
            if factor.reference is not None:
                absent = _Piece(factor.variable, "T.", factor.reference, has_column=False)
                for spelling in _spellings(_bases(factor), absent):
                    self._add(spelling, absent)

    def find(self, name: str, where: str) -> str | None:
        """Find the column that a name means.

        Parameters
        ----------
        name : str
            As the user wrote it.
        where : str
            Who names it, for messages.

        Returns
        -------
        str or None
            The column's own name; None for a name that means none. Another spelling is noted in `read_as`.

        Raises
        ------
        ModelSpecError
            The reference level, or a name that means several columns.
        """
        if name in self.columns:
            return name
        readings = [self._pieces.get(_squeezed(part), set()) for part in split_interaction(name)]
        found: dict[str, None] = {}
        references: list[_Piece] = []
        for reading in islice(product(*readings), _MAX_READINGS):
            found.update(dict.fromkeys(self._by_pieces.get(frozenset(reading), ())))
            references += [piece for piece in reading if not piece.has_column]
        if len(found) > 1:
            msg = f"{where} names '{name}', which may be {' or '.join(found)}; write the one that is meant"
            raise ModelSpecError(msg)
        if not found and not references and (column := self._uncoded(name)) is not None:
            found[column] = None
        if not found and references:
            raise ModelSpecError(self._reference_message(name, references[0], where))
        for column in found:
            if name != _ONE:
                self.read_as[name] = column
            return column
        return None

    def _uncoded(self, name: str) -> str | None:
        """Find the column a level that a name with ``T.`` means where no column is a difference.

        Earlier formulaic wrote ``C(group)[T.a]`` for the columns of ``0 + C(group)``.
        """
        pieces = self._pieces.get(_squeezed(name.replace("[T.", "[")), set()) if "[T." in name else set()
        columns = [column for piece in pieces for column in self._by_pieces.get(frozenset({piece}), ())]
        return columns[0] if len(columns) == 1 else None

    def level_means(self, names: Sequence[str]) -> dict[str, dict[str, float]]:
        """Read levels of a factor, its reference among them, as the means of the levels.

        In bidspm, and in SPM's designs, ``group.a`` and ``group.b`` beside ``X: [1, "group"]`` are the means
        of the groups. Under treatment coding that of the reference is the intercept, and that of another
        level the intercept plus its column; what a contrast of them says is the same.

        Parameters
        ----------
        names : sequence of str
            Conditions of one contrast.

        Returns
        -------
        dict of str to dict of str to float
            Condition -> weights of columns, for the levels of each factor whose reference is named beside
            another one; none where the factor interacts with another, or there is no intercept.
        """
        if INTERCEPT not in self.columns:
            return {}
        levels = {name: piece for name in names if (piece := self._level_of(name)) is not None}
        means: dict[str, dict[str, float]] = {}
        for variable in {piece.variable for piece in levels.values() if not piece.has_column}:
            together = {name: piece for name, piece in levels.items() if piece.variable == variable}
            # Alone, a level's name is that of its column everywhere else, and the reference has none.
            if self._interacts(variable) or len(together) < 2:
                continue
            for name, piece in together.items():
                own = self._by_pieces.get(frozenset({piece}), ())
                means[name] = {INTERCEPT: 1.0, **dict.fromkeys(own, 1.0)}
                self.read_as[name] = f"the mean of {variable} {piece.level}"
        return means

    def _level_of(self, name: str) -> _Piece | None:
        """Find the one level that a name means, of a factor with a reference."""
        found = [
            piece
            for piece in self._pieces.get(_squeezed(name), ())
            if piece.level and (piece.coding == "T." or not piece.has_column)
        ]
        return found[0] if len(found) == 1 and name not in self.columns else None

    def _interacts(self, variable: str) -> bool:
        return any(
            len(pieces) > 1 and any(piece.variable == variable for piece in pieces)
            for pieces in self._by_pieces
        )

    def match(self, text: str, position: int, where: str) -> tuple[int, str] | None:
        """Find the longest name of a column that stands at a position of an expression.

        Returns
        -------
        (int, str) or None
            The name's length and the column's own name.

        Raises
        ------
        ModelSpecError
            As `find`.
        """
        own = known_name(text, position, self.columns)
        end = position
        while part := known_name(text, end, self._safe):
            end += len(part)
            if text[end : end + 1] != ":":
                break
            end += 1
        spelt = text[position:end].rstrip(":")
        if len(spelt) > len(own) and (column := self.find(spelt, where)) is not None:
            return len(spelt), column
        return (len(own), own) if own else None

    def term(self, name: str) -> tuple[str, ...]:
        """Find a term's columns, whatever the order of its factors, and with or without ``C()``."""
        if name in self.terms:
            return self.terms[name]
        parts = [part.strip() for part in split_interaction(name)]
        same = [each for term, each in self.terms.items() if sorted(split_interaction(term)) == sorted(parts)]
        if same:
            return same[0] if len(same) == 1 else ()
        wanted = sorted(self._variable(part) for part in parts)
        found = [
            columns
            for term, columns in self.terms.items()
            if sorted(self._variable(part) for part in split_interaction(term)) == wanted
        ]
        return found[0] if len(found) == 1 else ()

    @property
    def notices(self) -> list[str]:
        """What to say of names that were read as others."""
        if not self.read_as:
            return []
        read = ", ".join(f"'{name}' as '{column}'" for name, column in self.read_as.items())
        return [f"names in contrasts are read as columns of the design: {read}"]

    def _add(self, part: str, piece: _Piece) -> None:
        factors = [factor for factor in self._factors.values() if factor.variable == piece.variable]
        spellings = {part}
        if piece.level:
            spellings |= {each for factor in factors for each in _spellings(_bases(factor), piece)}
        elif piece.variable == INTERCEPT:
            spellings |= {*_INTERCEPTS, _ONE}
        for spelling in spellings:
            self._pieces[_squeezed(spelling)].add(piece)
            # An expression has its own use for parentheses around a name, and for 1.
            if spelling[0] not in f"({_ONE}" and (spelling == part or _is_safe(spelling)):
                self._safe.add(spelling)

    def _piece(self, part: str) -> _Piece:
        """Take a factor's part in a column's name apart."""
        for name, factor in self._factors.items():
            if part.startswith(f"{name}[") and part.endswith("]"):
                inside = part[len(name) + 1 : -1]
                if inside in factor.levels and factor.reference is None:
                    return _Piece(factor.variable, "", inside)
                coding, dot, level = inside.partition(".")
                if dot and coding.isalpha() and level in factor.levels:
                    return _Piece(factor.variable, f"{coding}.", level)
                return _Piece(factor.variable, "", inside)
        return _Piece(part)

    def _variable(self, part: str) -> str:
        """Name the variable of a term's factor: ``C(sex)`` and ``sex`` are the same."""
        if part in self._factors:
            return self._factors[part].variable
        for factor in self._factors.values():
            if _squeezed(part) in (_squeezed(base) for base in _bases(factor)):
                return factor.variable
        return part

    def _reference_message(self, name: str, piece: _Piece, where: str) -> str:
        others = [
            column for pieces, columns in self._by_pieces.items() for column in columns
            if any(each.variable == piece.variable and each.level for each in pieces) and len(pieces) == 1
        ]  # fmt: skip
        compared = f": {enumerate_names(others)} compare the others with it" if others else ""
        return (
            f"{where} names '{name}', but '{piece.level}' is the reference level of '{piece.variable}', "
            f"which has no column{compared} (--reference {piece.variable}=LEVEL chooses another)"
        )


def split_interaction(name: str) -> list[str]:
    """Split a column's or a term's name at the colons that are outside of brackets and quotes."""
    parts, start, depth, quote = [], 0, 0, ""
    for position, char in enumerate(name):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"`":
            quote = char
        elif char in _OPENING:
            depth += 1
        elif char in _CLOSING:
            depth -= 1
        elif char == ":" and depth == 0:
            parts.append(name[start:position])
            start = position + 1
    return [*parts, name[start:]]


def known_name(text: str, position: int, names: Sequence[str] | set[str]) -> str:
    """Return the longest known name at a position that does not end inside a word."""
    best = ""
    for name in names:
        if len(name) > len(best) and text.startswith(name, position):
            following = text[position + len(name) : position + len(name) + 1]
            if not (_is_word(name[-1:]) and _is_word(following)):
                best = name
    if best and _is_word(best[0]) and position and _is_word(text[position - 1]):
        return ""
    return best


def _is_word(char: str) -> bool:
    return bool(char) and (char.isalnum() or char == "_")


def _bases(factor: CodedFactor) -> tuple[str, ...]:
    """Spell a coded factor without its level."""
    variable = factor.variable
    return (factor.name, variable, f"`{variable}`", *(coder.format(variable) for coder in _CODERS))


def _spellings(bases: Sequence[str], piece: _Piece) -> Iterator[str]:
    """Spell a level's column; the names of an indicator mean columns of treatment coding and of none."""
    for base in bases:
        yield f"{base}[{piece.coding}{piece.level}]"
        if piece.coding in ("", "T."):
            yield f"{base}[{piece.level}]"
            yield from (f"{base}{separator}{piece.level}" for separator in (".", "_", ""))


def _is_safe(spelling: str) -> bool:
    """Whether a spelling has no operator outside of brackets, where an expression would see one."""
    return re.fullmatch(r"[\w.:]+", re.sub(r"[\[(][^\])]*[\])]", "", spelling)) is not None


def _squeezed(name: str) -> str:
    """Leave out what does not matter in a name: blanks, and which quotes there are."""
    return re.sub(r"\s+", "", name).replace('"', "'")
