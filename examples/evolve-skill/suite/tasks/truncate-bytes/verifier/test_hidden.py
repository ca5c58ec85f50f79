import program


def test_three_bytes():
    assert program.fit("a€b", 2) == "a"
    assert program.fit("a€b", 3) == "a"
    assert program.fit("a€b", 4) == "a€"


def test_four_bytes():
    assert program.fit("😀😀", 7) == "😀"


def test_short():
    assert program.fit("é", 10) == "é"


def test_nothing():
    assert program.fit("é", 1) == ""
    assert program.fit("", 0) == ""
