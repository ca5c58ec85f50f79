import program


def test_many():
    assert program.counts([1] * 7 + [2] * 3) == {1: 7, 2: 3}


def test_total():
    text = "the quick brown fox jumps over the lazy dog"
    assert sum(program.counts(text).values()) == len(text)


def test_empty():
    assert program.counts([]) == {}


def test_three_times():
    assert program.counts("zzz") == {"z": 3}
