"""Which release this is: dead letters keep it, so that a bad release is known by its letters."""

from importlib.metadata import PackageNotFoundError, version

try:
    CODE_VERSION = version("stubline")
except PackageNotFoundError:  # run from a checkout that nobody installed
    CODE_VERSION = "0"
