"""`python -m heavytail_optax` is the command `heavytail`."""

import sys

from heavytail_optax.cli import main

if __name__ == "__main__":
    sys.exit(main())
