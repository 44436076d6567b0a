"""Counts what was checked, and what could not be."""

import sys

passed = 0
failures: list[str] = []
unchecked: list[str] = []


def check(what: str, fine: object, detail: object = "") -> bool:
    """One statement that holds or does not."""
    global passed
    if fine:
        passed += 1
        return True
    failures.append(what)
    print(f"FAILED  {what}" + (f"\n        {detail}" if detail else ""), file=sys.stderr)
    return False


def same(what: str, found: object, expected: object) -> bool:
    """One equality."""
    return check(what, found == expected, f"found {found!r}, expected {expected!r}")


def none(what: str, wrong: object) -> bool:
    """Nothing is wrong; what is, is shown."""
    wrong = list(wrong)
    return check(what, not wrong, "\n        ".join(str(item) for item in wrong))


def cannot_check(what: str) -> None:
    """Nothing here can check this; it counts neither way."""
    unchecked.append(what)


def finish() -> int:
    """Prints the summary; its last line counts only what was really checked."""
    for what in unchecked:
        print(f"NOT CHECKED  {what}")
    print(f"{passed} passed, {len(failures)} failed")
    return 1 if failures else 0
