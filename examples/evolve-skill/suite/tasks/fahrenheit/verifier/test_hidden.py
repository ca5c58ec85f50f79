import program


def test_both_ways():
    for celsius in range(-100, 100, 7):
        assert abs(program.to_celsius(program.to_fahrenheit(celsius)) - celsius) < 1e-9


def test_equal():
    assert program.to_fahrenheit(-40) == -40


def test_freezing():
    assert program.to_fahrenheit(0) == 32
