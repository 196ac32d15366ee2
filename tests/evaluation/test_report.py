"""The report page: complete without a network, honest pixels, and it works in a browser."""

import contextlib
import pathlib
import re

import numpy as np

from tests import required
from tests.evaluation import tiny
from vitok_jax.evaluation import report, results

NAMES = ["a.png", "</script><b>b & c.png", "d.png", "e.png"]
PSNR = results.Column("psnr", "PSNR", "higher", "picture", "dB", 2, "mean of 10 log10")
LPIPS = results.Column("lpips_vgg", "LPIPS (VGG)", "lower", "picture", "", 4, "v0.1")


def found() -> results.Results:
    def candidate(name, kind, psnr):
        channels = results.Channels(np.array([0.1, -0.4]), np.array([1.2, 0.3]), 64)
        return results.Candidate(
            name,
            kind,
            {"psnr": float(np.mean(psnr)), "lpips_vgg": 0.25},
            {"psnr": psnr, "lpips_vgg": [0.1, 0.2, 0.3, 0.4]},
            {"note": f"made by {name}"},
            channels if kind == "checkpoint" else None,
        )

    return results.Results(
        "S-B/16 <i> on photos",
        [PSNR, LPIPS],
        [
            candidate("demo", "checkpoint", [30.0, 21.5, 25.0, 28.3]),
            candidate("pca", "yardstick", [29.0, 22.5, 24.0, 27.3]),
        ],
        [results.Picture(i, name, 20, 30) for i, name in enumerate(NAMES)],
        {"pictures": 4, "data": "photos"},
    )


def shown(place: int) -> report.Shown:
    rng = np.random.default_rng(place)
    picture = rng.integers(0, 200, (20, 30, 3), np.uint8)
    made = {"input": picture, "demo": picture + 5, "pca": picture + np.uint8(place)}
    return {name: pixels[None] for name, pixels in made.items()}


def page(places=(1, 2, 3, 0), **changes) -> str:
    return report.build(found(), places=places, pictures=shown, settings=tiny.settings(**changes))


def embedded(text: str) -> list[str]:
    return re.findall(r"data:image/webp;base64,[A-Za-z0-9+/=]+", text)


def test_nothing_is_fetched_and_names_stay_text():
    text = page()
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", text)
    assert "default-src 'none'" in text
    assert text.count("</script>") == 2
    assert "<b>b" not in text
    assert "<title>S-B/16 &lt;i&gt; on photos</title>" in text


def test_the_same_results_give_the_same_bytes():
    assert page() == page()


def test_pictures_are_bounded_in_number_and_size():
    assert len(embedded(page())) == 4 * 3
    # A bound that only the first picture's three files fit in.
    size = sum(map(len, embedded(page(places=[1])))) / 1e6
    small = page(report_megabytes=size * 1.5)
    assert len(embedded(small)) == 3
    assert '"pictures":{"1":' in small
    cut = page(report_side=16)
    assert "30 \\u00d7 20, its central 16 \\u00d7 16" in cut


def test_without_pictures_the_figures_stay():
    text = report.build(found(), places=[], pictures=shown, settings=tiny.settings())
    assert embedded(text) == []
    assert '"psnr":26.2' in text


@contextlib.contextmanager
def browser(profile: pathlib.Path):
    """Headless Chromium; its absence skips, or fails where everything is required."""
    chromium, driver_path = required.program("chromium"), required.program("chromedriver")
    webdriver = required.module("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        f"--user-data-dir={profile}",
        "--window-size=1400,2400",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=driver_path)
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """What a reader does with the page."""

    def __init__(self, driver, path: pathlib.Path) -> None:
        self.driver = driver
        driver.get(path.as_uri())
        self.wait("return document.documentElement.dataset.ready === 'true'")

    def run(self, script: str, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, script: str) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 20).until(lambda _: self.run(script))

    def find(self, selector: str):
        return self.driver.find_element("css selector", selector)

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def texts(self, selector: str) -> list[str]:
        return [one.text for one in self.driver.find_elements("css selector", selector)]

    def names(self) -> list[str]:
        return self.texts("#images tbody td:first-child")

    def shows(self, state: str) -> None:
        self.wait(f"return document.getElementById('stage').dataset.ready === '{state}'")


def test_a_reader_clicks_through_it(tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page(), encoding="utf-8")
    with browser(tmp_path / "profile") as driver:
        seen = Page(driver, path)
        check_table(seen)
        check_sorting(seen)
        check_viewer(seen)
        check_plots(seen)
        check_theme(seen)
        assert [e for e in driver.get_log("browser") if e["level"] == "SEVERE"] == []


def check_table(seen: Page) -> None:
    assert seen.find("h1").text == "S-B/16 <i> on photos"
    rows = seen.texts("#results tbody tr")
    assert rows == ["demo checkpoint 26.20 0.2500", "pca yardstick 25.70 0.2500"]
    assert seen.texts("#results .best") == ["26.20", "0.2500", "0.2500"]
    seen.click("#conditions summary")
    assert "made by pca" in seen.find("#conditions-body").text


def check_sorting(seen: Page) -> None:
    worst_first = [NAMES[1], NAMES[2], NAMES[3], NAMES[0]]
    assert seen.names() == worst_first
    assert seen.find("th[aria-sort]").text.startswith("PSNR")
    seen.click("button[data-key=psnr]")
    assert seen.names() == worst_first[::-1]
    seen.click("button[data-key=lpips_vgg]")
    assert seen.names() == NAMES[::-1], "the worst LPIPS is the largest"
    seen.click("button[data-key=name]")
    assert seen.names() == sorted(NAMES)


def check_viewer(seen: Page) -> None:
    seen.shows("1:demo:wipe")  # the worst picture is open from the start
    seen.click("tr[data-row='3']")
    seen.shows("3:demo:wipe")
    assert seen.find("#picture-name").text == "e.png"
    assert "28.30 dB" in seen.find("#picture-values").text
    clip = "return getComputedStyle(document.querySelector('.stage .over')).clipPath"
    before = seen.run(clip)
    seen.run(
        "const wipe = document.getElementById('wipe'); wipe.value = 20;"
        "wipe.dispatchEvent(new Event('input'))"
    )
    assert seen.run(clip) != before
    assert seen.run("return document.getElementById('stage').style.getPropertyValue('--at')") == (
        "20%"
    )
    seen.click("button[data-candidate=pca]")
    seen.shows("3:pca:wipe")
    assert "27.30 dB" in seen.find("#picture-values").text
    seen.click("button[data-mode=difference]")
    seen.shows("3:pca:difference")
    # pca is 3 brighter everywhere; four times that, whatever the file format did on the way.
    assert pixel(seen, "difference") == [12, 12, 12, 255]
    assert pixel(seen, "lens-difference") == [12, 12, 12, 255]
    seen.run(
        "const gain = document.getElementById('gain'); gain.value = 10;"
        "gain.dispatchEvent(new Event('input'))"
    )
    assert pixel(seen, "difference") == [30, 30, 30, 255]
    seen.click("button[data-mode=side]")
    seen.shows("3:pca:side")
    boxes = [seen.find(f".stage .{name}").rect for name in ("over", "under")]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    seen.click("#next")
    seen.wait("return document.getElementById('picture-name').textContent !== 'e.png'")


def pixel(seen: Page, canvas: str) -> list[int]:
    return seen.run(
        "const c = document.getElementById(arguments[0]);"
        "return [...c.getContext('2d').getImageData(5, 5, 1, 1).data]",
        canvas,
    )


def check_plots(seen: Page) -> None:
    assert seen.run("return document.querySelectorAll('#histograms svg').length") == 2
    assert seen.run("return document.querySelectorAll('#histograms path').length") == 4
    assert seen.run("return document.querySelectorAll('#channels rect.channel').length") == 2
    title = seen.run("return document.querySelector('#channels rect title').textContent")
    assert title == "channel 0: mean 0.100, standard deviation 1.200"


def check_theme(seen: Page) -> None:
    colour = "return getComputedStyle(document.body).backgroundColor"
    before = seen.run(colour)
    seen.click("#theme")
    assert seen.run(colour) != before


def test_clips_play_frame_by_frame(tmp_path):
    def clips(place: int) -> report.Shown:
        still = shown(place)
        return {k: np.concatenate([v, v // 2, v // 3, v // 4, v // 5]) for k, v in still.items()}

    text = report.build(found(), places=[1], pictures=clips, settings=tiny.settings())
    (tmp_path / "report.html").write_text(text, "utf-8")
    with browser(tmp_path / "profile") as driver:
        page = Page(driver, tmp_path / "report.html")
        page.wait("return document.getElementById('frame-value').textContent.endsWith('/ 5')")
        seen = page.find("#frame-value").text
        page.wait(f"return document.getElementById('frame-value').textContent !== '{seen}'")
        page.click("#play")
        page.run(
            "const f = document.getElementById('frame'); f.value = 3;"
            "f.dispatchEvent(new Event('input'));"
        )
        assert page.find("#frame-value").text == "4 / 5" and page.find("#play").text == "Play"
        # The pixels of the canvas are those of the frame, to the byte.
        got = page.run(
            "const c = document.getElementById('difference');"
            "return Array.from(c.getContext('2d').getImageData(3, 2, 1, 1).data)"
        )
        input_3, output_3 = (clips(1)[name][3].astype(int) for name in ("input", "demo"))
        gain = int(page.run("return document.getElementById('gain').value"))
        expected = np.minimum(gain * np.abs(input_3 - output_3)[2, 3], 255)
        assert got[:3] == expected.tolist()
