"""Immutable values with fields, compared by them: what a frozen dataclass is, but made ten times faster.

Importing a package that defines a hundred frozen dataclasses would take longer than importing NumPy.
"""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn, dataclass_transform


@dataclass_transform(frozen_default=True)
class Record:
    """A value whose fields are the annotated attributes of its class, those of base classes first.

    Fields may have defaults. Equality and hash go by class and fields, and `match` takes the fields by position.

    >>> class Point(mg.core.record.Record):
    ...     x: float
    ...     y: float = 0.0
    >>> Point(1.0)
    Point(x=1.0, y=0.0)
    >>> Point(1.0) == Point(1.0, y=0.0)
    True
    """

    __match_args__: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        own = [name for name, kind in cls.__annotations__.items() if "ClassVar" not in str(kind)]
        cls.__match_args__ = tuple(dict.fromkeys([*cls.__match_args__, *own]))  # type: ignore[misc]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        names = self.__match_args__
        if len(args) == len(names) and not kwargs:
            self.__dict__.update(zip(names, args, strict=True))
            return
        if not args and len(kwargs) == len(names) and kwargs.keys() == {*names}:
            self.__dict__.update([(name, kwargs[name]) for name in names])
            return
        given = dict(zip(names, args, strict=False), **kwargs)
        if len(given) != len(args) + len(kwargs) or not given.keys() <= set(names):
            raise TypeError(f"{type(self).__name__} takes the fields {names}, not {args} and {kwargs}")
        for name in names:
            if name not in given and not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} needs the field {name!r}")
            self.__dict__[name] = given[name] if name in given else getattr(type(self), name)

    def particulars(self) -> dict[str, Any]:
        """The fields that are not as by default."""
        missing = object()
        return {name: value for name, value in vars(self).items() if getattr(type(self), name, missing) is not value}

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable: {name!r} cannot be set")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"
