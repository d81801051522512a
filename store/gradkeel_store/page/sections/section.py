"""The shape of a section."""

from __future__ import annotations

from dataclasses import dataclass

from gradkeel_store.page.markup import Child, Html, tag
from gradkeel_store.page.wording import count


@dataclass(frozen=True)
class Section:
    """A part of the page; `lead` says to a reader who never heard of a gradient how to read it."""

    anchor: str
    title: str
    lead: Child
    body: Child

    def html(self) -> Html:
        heading = tag("h2", self.title, id=f"{self.anchor}-title")
        said = isinstance(self.body, Html) and self.body.startswith('<p class="absent"')
        lead = tag("p", self.lead, cls="lead") if self.lead and not said else None
        return tag(
            "section", heading, lead, self.body, id=self.anchor, aria_labelledby=f"{self.anchor}-title"
        )


def absent(sentence: Child) -> Html:
    """What was not computed, said in words in the place where it would stand."""
    return tag("p", sentence, cls="absent")


def further(amount: int, noun: str, plural: str | None = None) -> Html | None:
    """How many more there are than were drawn; None where all were."""
    return absent(f"{count(amount, noun, plural)} more: see the report’s JSON.") if amount > 0 else None
