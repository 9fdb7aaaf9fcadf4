"""factory_boy's declarations without types of their own: mypy takes what they declare as it is."""

from typing import Any

from factory import declarations

LazyAttribute: Any = declarations.LazyAttribute
LazyFunction: Any = declarations.LazyFunction
SelfAttribute: Any = declarations.SelfAttribute
Sequence: Any = declarations.Sequence
SubFactory: Any = declarations.SubFactory
