import program


def test_nested():
    assert program.strip_tags("<p>a <i>b</i> c</p>") == "a b c"


def test_none():
    assert program.strip_tags("no tags") == "no tags"


def test_attributes():
    assert program.strip_tags('<a href="x">link</a> and <a href="y">more</a>') == "link and more"


def test_lines():
    assert program.strip_tags("<b>1</b>\n<b>2</b>") == "1\n2"
