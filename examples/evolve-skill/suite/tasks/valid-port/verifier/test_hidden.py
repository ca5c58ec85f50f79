import program


def test_edges():
    assert program.is_user_port(1024)
    assert program.is_user_port(65_535)


def test_beyond():
    assert not program.is_user_port(1023)
    assert not program.is_user_port(65_536)
    assert not program.is_user_port(0)
    assert not program.is_user_port(-1)
