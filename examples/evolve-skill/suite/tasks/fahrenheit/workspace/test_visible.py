import program


def test_boiling():
    assert program.to_fahrenheit(100) == 212


def test_freezing_back():
    assert program.to_celsius(32) == 0
