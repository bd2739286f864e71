"""A small web application: start from here.

Served by any WSGI server as ``webapp:app``::

    $ curl http://127.0.0.1:8000/hello/x
    {"hello":"x"}
"""

from importlib.metadata import version

from flask import Flask

__version__ = version("webapp")

app = Flask(__name__)


@app.get("/hello/<name>")
def hello(name: str) -> dict[str, str]:
    """Greets."""
    return {"hello": name}


@app.get("/version")
def show_version() -> dict[str, str]:
    """Tells which version answers, for instance after a reload."""
    return {"version": __version__}
