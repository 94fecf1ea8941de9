"""``python -m minilm`` is the command ``minilm``."""

from .cli import main

if __name__ == "__main__":
    main(prog_name="minilm")
