"""Draw how the controller answers to load, from its own code: `python -m docs.render_controller`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks.plots import Panel, Series, panels
from benchmarks.simulation import FULL_SPEED, SCENARIOS, Scenario, Simulation

IMAGE: Final = Path(__file__).with_name("images") / "controller.svg"
TITLES: Final = {
    "step": "Others take 90 % of the server for a minute",
    "ramp": "Others take more and more",
    "burst": "Bursts of 3 s each 20 s",
    "noise": "30 % load, batches differ by chance",
    "replica": "A replica that follows at 40,000 rows/s",
    "stuck signal": "A standby is too far behind for 40 s",
}


def render() -> str:
    """Draw a panel for each scenario that does not end by an error."""
    return panels([_panel(title, SCENARIOS[name]) for name, title in TITLES.items()])


def _panel(title: str, scenario: Scenario) -> Panel:
    done = Simulation(scenario).run()
    seconds = range(0, int(scenario.seconds) + 1, 2)
    speed = [(float(second), done.speed(second - 2, second)) for second in seconds]
    free = [(float(second), FULL_SPEED * (1 - scenario.load(second))) for second in seconds]
    return Panel(title, "rows/s", [Series("what others leave", free, filled=True), Series("purge", speed)])


if __name__ == "__main__":
    IMAGE.write_text(render())
