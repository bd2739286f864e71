"""A small Fanery application: start from here.

Served by any WSGI server as ``myproject:app``. Calls need the header
``X-Fanery-Call: true``, by which Fanery tells them from a browser's own
requests::

    $ curl -H 'X-Fanery-Call: true' http://127.0.0.1:8000/hello/x.json
    "hello x"
"""
from fanery import service, wsgi
from pkg_resources import get_distribution

__version__ = get_distribution('myproject').version


@service(ssl=False, safe=False, check_perm=False, check_abusive=False)
def hello(name='world'):
    """Greets."""
    return 'hello %s' % name


@service(ssl=False, safe=False, check_perm=False, check_abusive=False)
def version():
    """Tells which version answers, for instance after a reload."""
    return __version__


app = wsgi.build_handler()
