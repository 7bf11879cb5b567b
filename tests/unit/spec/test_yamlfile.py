"""YAML's traps are closed: words stay words, and what YAML hides is refused."""

import pytest

from e3mega.errors import Problem
from e3mega.spec.yamlfile import Parsed, parse_yaml


def parsed(text: str) -> tuple[Parsed, list[Problem]]:
    problems: list[Problem] = []
    return parse_yaml(text, "a.yaml", problems.append), problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("yes", "yes"),
        ("No", "No"),
        ("2024-01-01", "2024-01-01"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("010", "010"),
        ("0x10", "0x10"),
        (".inf", ".inf"),
        ("1e999", "1e999"),
        ("8k", "8k"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("1e-6", 1e-6),
        ("3e4", 3e4),
        (".5", 0.5),
        ("-2", -2),
        ("12", 12),
        ("true", True),
        ("null", None),
        ("", None),
        ("[1, on, 1e-6, [a]]", [1, "on", 1e-6, ["a"]]),
        ("{}", {}),
        ("|\n  two\n  lines", "two\nlines\n"),
    ],
)
def test_only_decimal_numbers_and_three_words_are_not_text(text: str, value: object) -> None:
    found, problems = parsed(f"key: {text}\n")
    assert problems == []
    assert [setting.value for setting in found.settings] == [value]
    assert type(found.settings[0].value) is type(value)


def test_values_and_sections_know_their_lines() -> None:
    found, _ = parsed("# a comment\nmodel:\n  tp: 1\n\n  sizes:\n    - 1\n    - 2\nname: x\n")
    assert [(".".join(s.key), s.line) for s in found.settings] == [
        ("model.tp", 3),
        ("model.sizes", 5),
        ("name", 8),
    ]
    assert found.settings[1].item_lines == (6, 7)
    assert found.sections == ((("model",), 2),)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "lines 1 and 3"),
        ("a:\n  b: 1\n  b: 1\n", 3, "lines 2 and 3"),
        ("a: [{b: 1, b: 2}]\n", 1, "'b' twice"),
        ("a: &x 1\nb: 2\n", 1, "anchor"),
        ("a: 1\nb: *x\n", 2, "alias"),
        ("a: !!python/object:os.system 1\n", 1, "tag"),
        ("a: !int 1\n", 1, "tag"),
        ("a: 1\n<<: {b: 1}\n", 2, "<<"),
        ("- 1\n", 1, "a list"),
        ("a: [1\nb: 2\n", 2, ""),
        ("a: 1\n---\nb: 2\n", 2, "another document"),
        ("? [a, b]\n: 1\n", 1, "name"),
        ("a: 1\n\tb: 2\n", 2, ""),
    ],
)
def test_what_a_spec_may_not_hold_is_named_with_its_line(text: str, line: int, words: str) -> None:
    _, problems = parsed(text)
    assert len(problems) == 1
    assert problems[0].where == f"a.yaml:{line}"
    assert words in str(problems[0])
