"""Film the page's live maze: python docs/live_maze.py reports/SCALE/index.html FILE.gif.

The reward is moved halfway. The same page gives the same film, whose random numbers have a seed.
"""

import shutil
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

SEED, STEPS, GOALS = 55433, 120, ((3, 7), (7, 2))
"""Of the random numbers; of the film; where the reward is, row and column, in either half."""
FRAME_MS, LAST_MS, COLOURS = 110, 2000, 32
RANDOM = "let seed = 1; Math.random = () => (seed = (48271 * seed) % 2147483647) / 2147483647;"
ACT = """(lab, goal) => {
  const board = lab.querySelector(".board"), box = board.getBoundingClientRect(), { x, width } = board.viewBox.baseVal;
  const [y0, x0] = (goal ?? []).map((part) => (part + 0.5 - x) * box.width / width);
  const at = { pointerType: "mouse", clientX: box.left + x0, clientY: box.top + y0 };
  for (const kind of goal ? ["pointerdown", "pointerup"] : []) {
    board.dispatchEvent(new PointerEvent(kind, { ...at, bubbles: true }));
  }
  lab.querySelector(".step").click();
}"""
"""Puts the reward in a square, where one is given, as a reader with a mouse does; and takes a step."""


def main(page_file: Path, film: Path) -> None:
    """Step through an episode and write a frame after every second step."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport={"width": 800, "height": 900}, color_scheme="light")
        page.add_init_script(RANDOM)
        page.goto(page_file.resolve().as_uri())
        frames = [Image.open(BytesIO(picture)).convert("RGB") for picture in pictures(page)]
        browser.close()
    palette = frames[-1].quantize(COLOURS)
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    times = [FRAME_MS] * (len(frames) - 1) + [LAST_MS]
    frames[0].save(film, save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=True)


def pictures(page: Page):
    """Yield what the maze and its agents look like, as PNG."""
    lab = page.locator(".lab.maze")
    lab.scroll_into_view_if_needed()
    lab.locator(".goal").wait_for(state="attached")
    page.add_style_tag(content=".lab.maze :is(.controls, .why) { display: none } .lab.maze .bench { padding: 8px }")
    page.evaluate(f"seed = {SEED}")  # other laboratories have drawn numbers, too
    lab.locator(".again").dispatch_event("click")
    for time in range(STEPS):
        goal = GOALS[2 * time // STEPS] if time % (STEPS // 2) == 0 else None
        lab.evaluate(ACT, goal)
        if time % 2:
            yield lab.locator(".bench").screenshot()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
