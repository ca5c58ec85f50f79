import program


def test_all_around():
    for x, y, degrees in ((-1, 0, 180), (0, -1, 270), (1, 1, 45), (-1, 1, 135), (1, -1, 315)):
        assert abs(program.heading(x, y) - degrees) < 1e-9


def test_lengths():
    assert abs(program.heading(3, 4) - 53.13010235415598) < 1e-9
