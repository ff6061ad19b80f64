"""Borrowing asyncio's own functions: our declaration and documentation, their code.

asyncio of the running interpreter is the specification, and what it does once per connection
(checking arguments, resolving, trying one address after the other) it does well. So a method
of that kind is declared in the file of its feature, with types and a docstring, and given
the code of asyncio's function of the same name. Signature, errors and behaviour are then
those of the running version. Used by those files only; nothing here knows a loop.
"""

from __future__ import annotations

import types

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    _F = TypeVar("_F", bound=Callable[..., Any])


class _Globals(dict[str, object]):
    """The globals of a module, which may change, with others in the place of some."""

    def __init__(self, module: dict[str, Any], own: dict[str, Any]) -> None:
        # The interpreter itself reads these, for imports, and asks for nothing that is missing.
        special = {name: value for name, value in module.items() if name.startswith("__")}
        super().__init__(special, **own)
        self._module = module

    def __missing__(self, name: str) -> Any:
        return self._module[name]


def borrowed(owner: type[Any], **globals_: Any) -> Callable[[_F], _F]:
    """Give the function that follows the code of `owner`'s function of the same name.

    owner: the class of asyncio's loop that has it. globals_: what its code finds in place of
    globals of these names; it sees the others as they are when it runs.
    What follows is a declaration: its parameters and types are for readers and type checkers,
    and name the newest version's keywords; an older version raises TypeError for one that it
    does not have.
    Where the running version lacks the function, the declaration is left as it is, and
    `_loop.Loop` does not take it.
    """

    def lend(declaration: Any) -> Any:
        original = vars(owner).get(declaration.__name__)
        if original is None:
            return declaration
        if not isinstance(original, types.FunctionType):
            return original  # Somebody instruments or compiles asyncio: theirs to document.
        function = types.FunctionType(
            original.__code__,
            _Globals(original.__globals__, globals_) if globals_ else original.__globals__,
            original.__name__,
            original.__defaults__,
            original.__closure__,
        )
        function.__kwdefaults__ = original.__kwdefaults__
        function.__doc__ = declaration.__doc__
        function.__module__ = declaration.__module__
        function.__qualname__ = f"Loop.{declaration.__name__}"
        return function

    return lend
