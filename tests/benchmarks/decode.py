"""How fast photographs are decoded: `advdl.data.decoding_speed`, printed.

    python tests/benchmarks/decode.py [--size 224] [--seconds 10]

Nothing is asserted. At reductions below 2 a JPEG is decoded whole; views of less detail gain by
decoding less.
"""

import argparse

from advdl.data import decoding_speed

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    for name, speed in decoding_speed(arguments.size, arguments.seconds).items():
        print(f"{name:8} {speed:8.1f} images/s per core")
