"""`python -m kvproxy` is the same as the `kvproxy` script."""

from kvproxy.cli import main

main()
