"""The shape of a section."""

from __future__ import annotations

from dataclasses import dataclass

from gradkeel_store.page.markup import Child, Html, tag


@dataclass(frozen=True)
class Section:
    """A part of the page; `lead` says to a reader who never heard of a gradient how to read it."""

    anchor: str
    title: str
    lead: Child
    body: Child

    def html(self) -> Html:
        heading = tag("h2", self.title, id=f"{self.anchor}-title")
        lead = tag("p", self.lead, cls="lead") if self.lead else None
        return tag(
            "section", heading, lead, self.body, id=self.anchor, aria_labelledby=f"{self.anchor}-title"
        )


def absent(sentence: Child) -> Html:
    """What was not computed, said in words in the place where it would stand."""
    return tag("p", sentence, cls="absent")
