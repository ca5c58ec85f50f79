import program


def test_one_tag():
    assert program.strip_tags("<br>text") == "text"


def test_two_tags():
    assert program.strip_tags("<b>bold</b> text") == "bold text"
