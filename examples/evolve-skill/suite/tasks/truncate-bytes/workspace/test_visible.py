import program


def test_plain():
    assert program.fit("abcdef", 3) == "abc"


def test_between_two_bytes():
    assert program.fit("café", 4) == "caf"
