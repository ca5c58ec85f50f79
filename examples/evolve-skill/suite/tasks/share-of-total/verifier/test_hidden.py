import program


def test_one():
    assert program.shares(["8"]) == [1.0]


def test_sum_is_one():
    assert abs(sum(program.shares(["1", "2", "4.5", "0"])) - 1) < 1e-12


def test_length():
    assert len(program.shares(["1"] * 9)) == 9


def test_none():
    assert program.shares([]) == []
