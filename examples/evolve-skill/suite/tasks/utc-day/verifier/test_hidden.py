import program


def test_west():
    assert program.utc_day("2023-12-31T20:00:00-05:00") == "2024-01-01"


def test_half_hours():
    assert program.utc_day("2024-03-01T05:00:00+05:30") == "2024-02-29"


def test_same_day():
    assert program.utc_day("2024-05-01T12:00:00-03:00") == "2024-05-01"


def test_just_midnight():
    assert program.utc_day("2024-05-01T02:00:00+02:00") == "2024-05-01"
