import program


def test_case():
    assert program.same_name("Ada", "ADA")


def test_sharp_s():
    assert program.same_name("Strauß", "STRAUSS")
