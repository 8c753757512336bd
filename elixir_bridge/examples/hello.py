from snakepit_port.adapter import command


@command
def add(a, b):
    return a + b


@command
def greet(name):
    return f"Hello {name}"
