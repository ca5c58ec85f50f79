import program


def test_two_digits():
    assert program.newest_first(["1.9", "1.10"]) == ["1.10", "1.9"]
