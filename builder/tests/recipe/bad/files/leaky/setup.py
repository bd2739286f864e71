from setuptools import setup

setup(name="leaky", py_modules=[])
