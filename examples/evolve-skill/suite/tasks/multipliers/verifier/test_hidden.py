import program


def test_texts():
    twice, thrice = program.multipliers([2, 3])
    assert twice("ab") == "abab"
    assert thrice("ab") == "ababab"


def test_one():
    assert program.multipliers([7])[0](6) == 42


def test_none():
    assert program.multipliers([]) == []


def test_zero_first():
    assert [f(5) for f in program.multipliers([0, 1])] == [0, 5]
