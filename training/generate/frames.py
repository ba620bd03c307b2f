"""The set of sentence frames that one language offers one split."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Frames:
    """Patterns by what they tell; see `defect_frames_en` for the slots; `joints` link two findings."""

    located: tuple[str, ...]
    bare: tuple[str, ...]
    clean: tuple[str, ...]
    loose_clean: tuple[str, ...]
    loose_fail: tuple[str, ...]
    prelude: tuple[str, ...]
    coda: tuple[str, ...]
    joints: tuple[str, ...]

    def all(self) -> frozenset[str]:
        """Every pattern of the set."""
        groups = (
            self.located,
            self.bare,
            self.clean,
            self.loose_clean,
            self.loose_fail,
            self.prelude,
            self.coda,
            self.joints,
        )
        return frozenset(pattern for group in groups for pattern in group)
