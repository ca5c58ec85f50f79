import program


def test_three_parts():
    given = ["2.0.1", "2.0.10", "2.0.9", "10.0", "9.9.9"]
    assert program.newest_first(given) == ["10.0", "9.9.9", "2.0.10", "2.0.9", "2.0.1"]


def test_prefix():
    assert program.newest_first(["1.2", "1.2.0"]) == ["1.2.0", "1.2"]


def test_empty():
    assert program.newest_first([]) == []
