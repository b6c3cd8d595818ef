"""What the language does not allow is refused with file and line, and what it allows is read."""

from pathlib import Path

import pytest

from laurel.errors import FormalError
from laurel.formal import Database

START = "$c wff |- C $.\n$v p q $.\nwp $f wff p $.\nwq $f wff q $.\nwi $a wff C p q $.\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$c a", r"line 1: this statement has no end"),
        ("$c a $v b $.", r"line 1: '\$v' where '\$.' should end it"),
        ("$c $.", r"line 1: \$c declares"),
        ("$c a a $.", r"line 1: 'a' is declared already"),
        ("$c a $.\n$v a $.", r"line 2: 'a' is declared already"),
        ("$v a $.\n$c a $.", r"line 2: 'a' is declared already"),
        ("${\n$c a $.\n$}", r"line 2: \$c declares symbols, outside"),
        ("$v $.", r"declares no variable"),
        ("${\n$v a $.", r"line 1: this block has no end"),
        ("$}", r"line 1: '\$}' closes nothing"),
        ("\n\n$x", r"line 3: '\$x' starts no statement"),
        ("$a wff $.", r"starts no statement"),
        ("a b", r"line 1: after the label 'a' comes"),
        ("a", r"after the label 'a' comes"),
        ("a/b $a", r"'a/b' is no label"),
        ("$( one $( two $) $)", r"line 1: '\$\(' inside of a comment"),
        ("\n$( one", r"line 2: this comment has no end"),
        ("$c ü $.", r"not printable ASCII"),
        ("$[ other.mm $]", r"cannot be included in a text"),
        (START + "wi $a wff C q p $.", r"line 6: 'wi' is declared already"),
        (START + "C $a wff p $.", r"line 6: 'C' is declared already"),
        (START + "p $a wff p $.", r"line 6: 'p' is declared already"),
        (START + "$c wi $.", r"line 6: 'wi' is declared already"),
        (START + "x $f wff $.", r"line 6: 'x' wants a kind and a variable"),
        (START + "x $f wff C $.", r"'C' is no variable"),
        (START + "x $f p q $.", r"'p' is no constant"),
        (START + "x $f wff p $.", r"line 6: 'p' has a kind already"),
        (START + "x $a $.", r"'x' states nothing"),
        (START + "x $a p $.", r"'p' is no constant"),
        (START + "x $a |- r $.", r"'r' is no variable"),
        (START + "$v r $. x $a |- r $.", r"'r' has no kind here"),
        (START + "${ $v r $. wr $f wff r $. $} x $a |- r $.", r"'r' is no variable that is active"),
        (START + "$d p $.", r"two or more different"),
        (START + "$d p p $.", r"two or more different"),
        (START + "$d p C $.", r"'C' is no variable"),
        (START + "x $p |- p $.", r"line 6: '\$.' where '\$=' should end it"),
        (START + "x $p |- p $= wp\n wq $.\n", r"line 6: theorem 'x': 2 expressions are left"),
        (START + "x $p |- p $= wp\n y $.\n", r"line 7: theorem 'x': step 2: 'y' is no label"),
        (START + "x $p |- p $= $.", r"line 6: theorem 'x': the proof is empty"),
        (START + "x $p |- p $= ? $.", r"line 6: theorem 'x': the proof has a gap"),
        (START + "x $p |- p $= x $.", r"'x' does not stand before"),
    ],
)
def test_what_is_no_database_is_refused_by_its_line(text: str, message: str):
    with pytest.raises(FormalError, match=message) as caught:
        Database(text)
    assert caught.value.hint


def test_blocks_end_what_they_hold():
    database = Database(
        START
        + "${ x.1 $e |- p $. $d p q $. x $a |- C q p $. $}\ny $a |- C p q $.\n${ $v r $. r1 $f wff r $. $}\n"
        "$v r $. r2 $f wff r $.\nz $p |- C r p $= wr wp y $.".replace("wr wp", "r2 wp")
    )
    frame = database.assertions["x"]
    assert [each.label for each in frame.hypotheses] == ["wp", "wq", "x.1"]
    assert frame.disjoint == {("p", "q")}
    assert [each.label for each in database.assertions["y"].hypotheses] == ["wp", "wq"]
    assert not database.assertions["y"].disjoint
    assert list(database.assertions) == ["wi", "x", "y", "z"]


def test_only_variables_that_occur_are_mandatory():
    database = Database(START + "${ x.1 $e |- q $. x $a |- C p p $. $} y $a |- q $.")
    assert [each.label for each in database.assertions["x"].hypotheses] == ["wp", "wq", "x.1"]
    assert [each.label for each in database.assertions["y"].hypotheses] == ["wq"]


def test_files_include_each_other_once(tmp_path: Path):
    (tmp_path / "start.mm").write_text("$[ all.mm $] $( all.mm is being read, so it is left out $)\n" + START)
    (tmp_path / "all.mm").write_text("$[ start.mm $]\n$[ start.mm $]\nx $a |- C p p $.")
    assert list(Database.read(tmp_path / "all.mm").assertions) == ["wi", "x"]
    (tmp_path / "more.mm").write_text("$[ all.mm $]\n\ny $a |- r $.")
    with pytest.raises(FormalError, match=r"more.mm, line 3: 'r'"):
        Database.read(tmp_path / "more.mm")


def test_a_database_reads_no_file_outside_of_its_folder(tmp_path: Path):
    (tmp_path / "secret").write_text("$c a $.")
    (tmp_path / "in").mkdir()
    for name in ("../secret", str(tmp_path / "secret")):
        (tmp_path / "in" / "a.mm").write_text(f"$[ {name} $]")
        with pytest.raises(FormalError, match="outside of"):
            Database.read(tmp_path / "in" / "a.mm")
    (tmp_path / "in" / "a.mm").write_text("$[ none.mm $]")
    with pytest.raises(FormalError, match=r"a.mm, line 1: cannot read"):
        Database.read(tmp_path / "in" / "a.mm")
    (tmp_path / "in" / "a.mm").write_text("$[ none.mm")
    with pytest.raises(FormalError, match=r"line 1: this inclusion is not one"):
        Database.read(tmp_path / "in" / "a.mm")


def test_a_goal_is_a_statement_of_the_database():
    database = Database(START)
    for statement in ("", "C p q", "|- C p q", "wff C p x", "wff C p q ?"):
        with pytest.raises(FormalError):
            database.goal(statement)
    with pytest.raises(FormalError, match="no theorem 'wi'"):
        database.claim("wi")
    assert [each.label for each in database.goal("wff C q q").assertion.hypotheses] == ["wq"]
