import program


def test_plain_leap():
    assert program.is_leap(2024)


def test_common():
    assert not program.is_leap(2023)
