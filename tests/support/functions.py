"""What shared variables hold."""


def value(s):
    """The value of a shared variable as a list."""
    return s.get_value().tolist()
