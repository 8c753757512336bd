"""snakepit-port: an embedded supervisor that lets a BEAM host drive pools of Python workers.

Importing this package stays free of dependencies: workers import it inside interpreters that
have nothing installed, on Python 3.9 and newer.
"""

__version__ = "0.1.0"
