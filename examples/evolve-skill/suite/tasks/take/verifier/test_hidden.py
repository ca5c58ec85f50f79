import program


def test_no_limit():
    assert program.page("abc") == ["a", "b", "c"]


def test_large():
    assert program.page([1], 10) == [1]


def test_zero_of_nothing():
    assert program.page([], 0) == []


def test_zero_of_many():
    assert program.page(range(100), 0) == []
