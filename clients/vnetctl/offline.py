"""``vnetctl convert`` and ``vnetctl schema``: the only commands that import the model, and need no daemon."""

KINDS = ("network", "filter", "binding")


def convert(output, arguments): ...
def schema(output, arguments): ...
