"""A small Fanery application."""
from setuptools import setup

setup(
    name='myproject',
    version='0.0.1',
    description=__doc__,
    packages=['myproject'],
    python_requires='>=2.7, <3',
    install_requires=['fanery>=0.2.5, <0.3'],
    zip_safe=False,
)
