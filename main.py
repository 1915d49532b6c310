"""The published program's command line: ``python main.py --batch_size 64 --imsize 64 --dataset celeb --span 3 ...``."""

import sys

from sagan.published.command import main

if __name__ == "__main__":
    sys.exit(main())
