import program


def test_below():
    assert program.is_own("www.example.org")


def test_stranger():
    assert not program.is_own("example.org.evil.net")
