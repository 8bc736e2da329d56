"""The one exception whose text is for the person at the terminal: one line, no traceback."""


class LabError(Exception):
    pass
