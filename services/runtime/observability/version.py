"""The release that runs. Dead letters keep it, so that those of a bad release can be found."""

from importlib.metadata import PackageNotFoundError, version

try:
    CODE_VERSION = version("stubline")
except PackageNotFoundError:  # run from a checkout that is not installed
    CODE_VERSION = "0"
