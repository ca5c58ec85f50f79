import program


def test_tenths():
    assert program.is_balanced([0.1, 0.2], [0.3])
