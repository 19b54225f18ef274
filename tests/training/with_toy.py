"""The `facefold` command that knows the toy: python tests/training/with_toy.py train toy …"""

from flows.terminal.command import main
from pipeline.training.systems import SYSTEMS

SYSTEMS["toy"] = "tests.training.toy"

if __name__ == "__main__":
    main()
