import program


def test_itself():
    assert program.is_own("Example.ORG")


def test_look_alike():
    assert not program.is_own("notexample.org")


def test_deeper():
    assert program.is_own("a.b.example.org")


def test_other():
    assert not program.is_own("example.com")
    assert not program.is_own("")
