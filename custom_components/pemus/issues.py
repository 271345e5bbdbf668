"""Repair issues for persistent problems that the engine reports."""

from dataclasses import dataclass
from typing import Final

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir

from .const import DOMAIN
from .coordinator import PemusCoordinator
from .friends.terms import as_markdown, find_friend
from .p2p.models import Problem, ProblemKey, Status
from .p2p.models.pemus_id import grouped

ISSUE_IDENTITY: Final = "identity_in_use"
ISSUE_UNAPPLIED: Final = "config_unapplied"
ISSUE_UNFRIENDED: Final = "unfriended"


class Issues:
    """Keeps one repair issue for each persistent problem."""

    def __init__(
        self, hass: HomeAssistant, entry: ConfigEntry, coordinator: PemusCoordinator
    ) -> None:
        """Start without issues."""
        self._hass = hass
        self._entry = entry
        self._coordinator = coordinator
        self._issues: dict[str, _Issue] = {}

    @callback
    def async_update(self) -> None:
        """Create issues for new problems, and delete those of solved ones."""
        issues = self._issues_of(self._coordinator.data)
        for issue_id in self._issues.keys() - issues.keys():
            ir.async_delete_issue(self._hass, DOMAIN, issue_id)
        for issue_id, issue in issues.items():
            if self._issues.get(issue_id) != issue:
                ir.async_create_issue(
                    self._hass,
                    DOMAIN,
                    issue_id,
                    is_fixable=issue.is_fixable,
                    severity=ir.IssueSeverity.WARNING,
                    translation_key=issue.key,
                    translation_placeholders=issue.placeholders,
                )
        self._issues = issues

    @callback
    def async_clear(self) -> None:
        """Delete all issues. Without the engine, the state of the problems is unknown."""
        for issue_id in self._issues:
            ir.async_delete_issue(self._hass, DOMAIN, issue_id)
        self._issues = {}

    def _issues_of(self, status: Status) -> dict[str, _Issue]:
        """Return the persistent problems by issue id."""
        issues = {
            _issue_id(problem): _Issue(
                problem.key,
                problem.placeholders,
                is_fixable=problem.key is ProblemKey.IDENTITY_LOST,
            )
            for problem in status.problems
        }
        if (error := self._coordinator.engine.unapplied) is not None:
            issues[ISSUE_UNAPPLIED] = _Issue(ISSUE_UNAPPLIED, {"error": error})
        if (peers := status.peers) is not None:
            if peers.superseded:
                issues[ISSUE_IDENTITY] = _Issue(ISSUE_IDENTITY, {}, is_fixable=True)
            for friend in peers.friends:
                known = find_friend(self._entry, friend.id)
                if friend.unfriended and known is not None:
                    # Home Assistant includes issue ids in reports, so they must not contain a friend's PeMuS ID.
                    issues[f"{ISSUE_UNFRIENDED}_{known.subentry_id}"] = _Issue(
                        ISSUE_UNFRIENDED,
                        {"name": as_markdown(known.title), "id": grouped(friend.id)},
                    )
        return issues


@dataclass(frozen=True, slots=True)
class _Issue:
    """The content of a repair issue."""

    key: str
    placeholders: dict[str, str]
    is_fixable: bool = False


def _issue_id(problem: Problem) -> str:
    """Return an id that is unique for a problem and its share."""
    return problem.key if problem.share is None else f"{problem.key}_{problem.share}"
