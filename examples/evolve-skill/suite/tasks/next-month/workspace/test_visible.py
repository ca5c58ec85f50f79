import program


def test_spring():
    assert program.next_month(3) == 4


def test_december():
    assert program.next_month(12) == 1
