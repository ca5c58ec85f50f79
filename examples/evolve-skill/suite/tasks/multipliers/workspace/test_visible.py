import program


def test_each_has_its_own():
    assert [f(10) for f in program.multipliers([1, 2, 3])] == [10, 20, 30]
