"""Forms."""

REQUIRED = ("name", "street", "city")


def is_complete(form):
    """Whether every required field is there and not blank."""
    return any(form.get(field, "").strip() for field in REQUIRED)
