import program


def test_plain():
    assert program.stem("notes.txt") == "notes"


def test_name_that_ends_alike():
    assert program.stem("draft.txt") == "draft"
