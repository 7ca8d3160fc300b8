"""Pages of the project lead to what is there: links to files and headings, modules and names in ARCHITECTURE.md."""

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PAGES = sorted(page for page in (*TOP.glob("*.md"), *TOP.glob("[a-z]*/*.md"), *TOP.glob("docs/adr/*.md")))
LAYERS = "bus|linux|service|reconcile|host|ruleset|dnsmasq|xmlcodec|packets|plan|model"
ARCHITECTURE = (TOP / "docs" / "ARCHITECTURE.md").read_text()
NAMED = sorted(set(re.findall(rf"`((?:{LAYERS})/[\w*./]+)`", ARCHITECTURE)))
TARGETS = re.findall(
    r"^\| ((?:`\w+`(?:, )?)+) \|", ARCHITECTURE.partition("| target in `reconcile/` |")[2], re.MULTILINE
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        name, _, heading = link.partition("#")
        if "://" in name:
            continue
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not heading or heading in _headings(target), link


@pytest.mark.parametrize("named", NAMED)
def test_every_module_and_name_the_architecture_names_is_there(named: str) -> None:
    path, _, name = named.partition(".")
    modules = list((TOP / "vnetd").glob(f"{path}.py")) or list((TOP / "vnetd").glob(f"{path}/__init__.py"))
    assert modules
    if name:
        (module,) = modules
        assert re.search(rf"^(class |def |async def )?{name}\b", module.read_text(), re.MULTILINE)


def test_every_target_the_architecture_names_is_a_module_of_the_loop() -> None:
    named = re.findall(r"`(\w+)`", " ".join(TARGETS))
    assert len(named) >= 10
    assert not [name for name in named if not (TOP / "vnetd" / "reconcile" / f"{name}.py").exists()]


def test_lines_of_the_changelog_are_short_and_no_fact_stands_twice() -> None:
    lines = (TOP / "CHANGELOG.md").read_text().splitlines()
    assert max(map(len, lines)) <= 120
    facts = [line for line in lines if line.startswith("- ")]
    assert len(facts) == len(set(facts))


def _headings(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
