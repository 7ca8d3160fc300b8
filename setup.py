"""Everything else is in pyproject.toml; this puts the interface contracts, which are no Python, into the wheel."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent


class BuildWithContracts(build_py):
    """Copies ``dbus/*.xml`` to where an installed daemon looks for them: ``vnetd/bus/contracts``."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # a checkout reads dbus/ itself
        target = Path(self.build_lib, "vnetd", "bus", "contracts")
        self.mkpath(str(target))
        for contract in sorted(HERE.glob("dbus/*.xml")):
            self.copy_file(str(contract), str(target / contract.name))


setup(cmdclass={"build_py": BuildWithContracts})
