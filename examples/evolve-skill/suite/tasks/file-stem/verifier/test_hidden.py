import program


def test_other_ending():
    assert program.stem("next") == "next"


def test_letters_of_the_ending():
    assert program.stem("text.txt") == "text"
    assert program.stem("x.txt") == "x"


def test_twice():
    assert program.stem("a.txt.txt") == "a.txt"


def test_dots():
    assert program.stem("wait...") == "wait..."
