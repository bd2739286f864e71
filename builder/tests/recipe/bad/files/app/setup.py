from setuptools import setup

setup(name="app", py_modules=[])
