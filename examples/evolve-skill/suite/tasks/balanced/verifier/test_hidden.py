import program


def test_unequal():
    assert not program.is_balanced([10.0], [10.01])
    assert not program.is_balanced([1e9], [1e9 + 0.5])


def test_many():
    assert program.is_balanced([0.1] * 10, [1.0])


def test_empty():
    assert program.is_balanced([], [])


def test_sign():
    assert not program.is_balanced([5.0], [-5.0])
