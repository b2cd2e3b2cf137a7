"""Optional packages: what is said when one is not installed."""

from __future__ import annotations


def missing_extra(feature: str, package: str, extra: str) -> ImportError:
    """The error for a feature whose package is not installed.

    Args:
      feature: what the user asked for. package: what it needs. extra: of jaxtrade, which brings it.
    """
    return ImportError(
        f"{feature}: needs the package {package!r}; "
        f"install it with: pip install 'jaxtrade[{extra}]'."
    )
