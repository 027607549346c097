"""The tagger against titles that the original's own tests name, and what they say of them."""

from __future__ import annotations

import pytest

from envs.webshop.nouns import nouns
from envs.webshop.reward import title_overlap

SAIREED = "Saireed UL Listed 2 Prong Power Cord for JBL Bar 3.1 Bar 2.1 Channel 4K Ultra HD Soundbar"
BRST = "BRST AC Power Cord Outlet Socket Cable Plug Lead for Panasonic SC-HT830V DVD/VCR Combo Home Theater System"


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Portable Bluetooth Speaker with Strong Bass", ("bluetooth", "speaker", "bass")),
        ("Women's Slim Fit Cotton T-Shirt, 2 Pack, Black", ("women's", "cotton", "shirt", "pack")),
        ("", ()),
        ("12 oz 500 ml", ()),
        ("A beautiful, waterproof and washable Table", ("table",)),
    ],
)
def test_nouns(title: str, expected: tuple[str, ...]) -> None:
    assert nouns(title) == expected


@pytest.mark.parametrize(
    ("wanted", "bought", "spacy"),
    [
        ("adidas Unisex-Adult D.o.n. Issue 2 Basketball Shoe", "adidas Unisex-Adult D.o.n. Issue 2 Indoor Court Shoe", 0.85),
        (f"{SAIREED} Home Theater System Subwoofer", BRST, 0.31),
        (SAIREED, BRST, 0.17),
        (
            "Rusticware 921ORB Kitchen and Bath Cabinet Knob",
            "Minkissy 2pcs Stainless Steel Eyebrow Tweezers Blackhead Acne Remover Portable Makeup Tweezers (Silver)",
            0.0,
        ),
    ],
)
def test_overlaps_are_near_spacys_and_on_the_same_side_of_the_thresholds(wanted: str, bought: str, spacy: float) -> None:
    found = title_overlap(nouns(bought), nouns(wanted))
    assert found == pytest.approx(spacy, abs=0.11)
    assert (found == 0, found < 0.1, found > 0.2) == (spacy == 0, spacy < 0.1, spacy > 0.2)
