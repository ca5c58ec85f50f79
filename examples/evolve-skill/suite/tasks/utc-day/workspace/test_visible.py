import program


def test_utc():
    assert program.utc_day("2024-05-01T12:00:00+00:00") == "2024-05-01"


def test_east():
    assert program.utc_day("2024-05-01T01:30:00+02:00") == "2024-04-30"
