import program


def test_along_x():
    assert abs(program.heading(1, 0)) < 1e-9


def test_along_y():
    assert abs(program.heading(0, 1) - 90) < 1e-9
