"""What `make test` installs is what constraints.txt pins: the same versions on every machine."""

from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CONSTRAINTS = Path(__file__).parent.parent / "constraints.txt"


def pins() -> dict[str, Requirement]:
    """The constraints that hold on this Python and this machine, by package."""
    lines = (line.strip() for line in CONSTRAINTS.read_text().splitlines())
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    here = [r for r in requirements if r.marker is None or r.marker.evaluate()]
    return {canonicalize_name(requirement.name): requirement for requirement in here}


def resolved(root: Requirement) -> set[str]:
    """Every package that `root` brings along, itself left out."""
    queue, seen = [root], set()
    names: set[str] = set()
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *sorted(requirement.extras)):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            names.add(name)
            for line in metadata.requires(name) or []:
                wanted = Requirement(line)
                if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                    queue.append(wanted)
    return names - {canonicalize_name(root.name)}


def test_every_package_that_make_installs_is_pinned_and_installed_as_pinned() -> None:
    packages = resolved(Requirement("onebound[dev]")) | {"uv"}
    assert {"torch", "click", "pytest"} <= packages  # The walk does reach direct, indirect and extra requirements.
    pinned = pins()
    assert sorted(packages - pinned.keys()) == [], "add these to constraints.txt"
    # The local part of a version (2.13.0+cpu) is the build, not the release: PEP 440 lets ==2.13.0 match it.
    differing = {
        name: f"installed {metadata.version(name)}, pinned {pinned[name].specifier}"
        for name in packages
        if not pinned[name].specifier.contains(metadata.version(name), prereleases=True)
    }
    assert differing == {}


def test_constraints_pin_exactly_and_never_a_local_build() -> None:
    for requirement in pins().values():
        assert str(requirement.specifier).startswith("=="), requirement
        assert "+" not in str(requirement.specifier), requirement
