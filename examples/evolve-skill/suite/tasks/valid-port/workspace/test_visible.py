import program


def test_inside():
    assert program.is_user_port(8080)


def test_too_large():
    assert not program.is_user_port(70_000)
