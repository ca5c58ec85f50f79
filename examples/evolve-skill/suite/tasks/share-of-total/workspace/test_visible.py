import program


def test_quarters():
    assert program.shares(["1", "3"]) == [0.25, 0.75]
