"""CPython's own asyncio tests, run on any event loop.

    python tests/conformance --loop mioloop -j 2

The tests are those of the interpreter that runs this: the installed `test.test_asyncio`
package and a few neighbours that drive a loop. Nothing of them is copied. A group is one
test module and gets a process of its own, into which the loop is injected before the test
module is imported. `README.md` beside this file says how to read the result.

The order of the modules is the order in which they may import one another: `tables` and
`exclusions` are data, `inject`, `adapt` and `collect` prepare the test module, `worker`
runs it, `watch` follows a worker, `group` runs as many as it takes, `report` prints, `cli`
ties them together.
"""
