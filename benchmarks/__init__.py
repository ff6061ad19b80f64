"""mioloop beside asyncio, uvloop and others: `make bench`; README.md here says how it measures."""
