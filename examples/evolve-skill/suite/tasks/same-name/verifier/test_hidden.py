import program


def test_accents():
    assert program.same_name("Jose\u0301", "JOS\u00c9")


def test_final_sigma():
    assert program.same_name("ΟΔΟΣ", "οδος")


def test_different():
    assert not program.same_name("Ada", "Eda")
    assert not program.same_name("", "a")


def test_street():
    assert program.same_name("GROSSE STRASSE", "große straße")
