"""The program that decodes a session, at the usual priority: beside other tests it would wait for a core."""

from clesr.engines.common import processor
from clesr.pipeline.session import reading

if __name__ == "__main__":
    processor.NICE = 0
    reading.main()
