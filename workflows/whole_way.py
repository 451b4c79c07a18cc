"""The whole way: from a data set to a label map in a browser, in ten minutes on two processor cores.

    python workflows/whole_way.py DATA_SET [--conf hippocampus] [--minutes 5] [--out whole_way]
    python workflows/whole_way.py --phantom                             # synthetic scans, no download

Types the commands that you would type: train, package, verify, publish in a hub, pull, verify what was pulled, serve. Then it does what a
colleague does with the page: sends a scan that training never saw, waits, and takes the label map home, which must be the one that
`segpipe predict` writes, voxel for voxel. With Chromium and Selenium on the machine it does so in a browser and keeps a picture of the
page; without them, over HTTP.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.dataset.phantom import write_phantom
from segpipe.io.read import read_volume

CARD = """
name: {name}
version: "1.0"
title: {name} by a network (artificial intelligence) that was trained as an example
summary: Shows the way from scans to a model that proves itself; trained for {budget}.
modality: {modality}
body_part: {body_part}
intended_use: To try segpipe.
out_of_scope: Patients.
authors: [whoever ran workflows/whole_way.py]
licences: {{code: Apache-2.0, weights: {licence}, samples: {licence}}}
data_source: {source}
reference_standard: The label maps of that data set.
limitations: Trained for minutes.
"""
SAMPLES = 1
SECONDS = 300.0
"""Most that a scan may take, on a machine that does other things."""

_STARTED = re.compile(r"at (http://127\.0\.0\.1:\d+)")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> int:
    options = parse()
    started = time.monotonic()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    root, conf = options.data, options.conf
    if options.phantom:
        root, conf = out / "scans", "phantom"
        tell("0. Make synthetic scans")
        write_phantom(root, "prostate", options.cases, options.seed, options.size, "msd")
    name, run, hub = f"{conf}-example", out / "run", out / "hub"
    shutil.rmtree(out / "cache", ignore_errors=True)
    os.environ["SEGPIPE_CACHE"] = str((out / "cache").resolve())  # a version never changes once it was pulled; an example made anew does
    budget = f"training.max_steps={options.steps}" if options.steps else f"training.max_minutes={options.minutes:g}"

    tell("1. Train")
    words = [f"dataset.root={root}", f"run_dir={run}", f"seed={options.seed}", budget, "training.resume=auto", *options.settings]
    segpipe("train", f"conf={conf}", *words)  # a way that was gone before goes on with its model
    scans = held_out(root, run)

    tell("2. A package: the model, its card and a sample, which proves it")
    samples = out / "samples"
    shutil.rmtree(samples, ignore_errors=True)
    samples.mkdir()
    for scan in scans[:SAMPLES]:
        shutil.copy(scan, samples)
    card = out / "card.yaml"
    source, licence = ("Synthetic scans", "CC0-1.0") if options.phantom else (options.source, options.sample_licence)
    budget = f"{options.steps} steps" if options.steps else f"{options.minutes:g} minutes"
    told = {"name": name, "budget": budget, "source": source, "licence": licence}
    told |= {"modality": options.modality, "body_part": options.body_part or ("prostate" if options.phantom else conf)}
    card.write_text(CARD.format(**told), encoding="utf-8")
    package = out / f"{name}.zip"
    package.unlink(missing_ok=True)
    segpipe("package", run, "--card", card, "--samples", samples, "--out", package)
    segpipe("verify", package)

    tell("3. A hub, and a colleague who pulls from it")
    shutil.rmtree(hub, ignore_errors=True)
    segpipe("hub", "add", hub, package)
    pulled = out / "pulled.zip"
    pulled.unlink(missing_ok=True)
    segpipe("hub", "pull", hub, f"{name}@1.0", "--out", pulled)
    segpipe("verify", pulled)

    tell("4. Serve it, and segment a scan in the page")
    scan, received = scans[-1], out / "received.nii.gz"
    with served(pulled, out) as address:
        picture = in_browser(address, scan, out / "page.png")
        job = picture or over_http(address, scan)
        received.write_bytes(fetch(f"{address}/v1/jobs/{job}/results/nifti"))

    tell("5. The same scan by the command line")
    alone = out / "alone"
    shutil.rmtree(alone, ignore_errors=True)
    alone.mkdir()
    (alone / scan.name).symlink_to(scan.resolve())
    segpipe("predict", pulled, alone, out / "predicted", "--overwrite")
    mine, theirs = (read_volume(path).array for path in (out / "predicted" / scan.name, received))
    if not np.array_equal(mine, theirs):
        raise SystemExit(f"{received} differs from {out / 'predicted' / scan.name}")
    say(f"{received}: the same, voxel for voxel ({int((mine > 0).sum())} labelled)")
    say(f"\nTotal time {(time.monotonic() - started) / 60:.1f} minutes. Look at {out / 'page.png' if picture else received}")
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="folder of the data set")
    parser.add_argument("--phantom", action="store_true", help="synthetic scans in place of a data set")
    parser.add_argument("--conf", default="hippocampus", help="the task's name in conf/conf (default hippocampus)")
    parser.add_argument("--out", type=Path, default=Path("whole_way"), help="folder for everything (default whole_way)")
    parser.add_argument("--minutes", type=float, default=5.0, help="time for training (default 5)")
    parser.add_argument("--steps", type=int, default=0, help="train this number of steps instead")
    parser.add_argument("--cases", type=int, default=12, help="synthetic scans (default 12)")
    parser.add_argument("--size", choices=("small", "demo"), default="demo", help="of synthetic scans")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--source", default="The data set that was given", help="where the scans are from, for the card")
    parser.add_argument(
        "--sample-licence", default="CC-BY-SA-4.0", help="of the scan that becomes the package's sample, and of the weights"
    )
    parser.add_argument("--modality", default="MR", help="of the scans, for the card (default MR)")
    parser.add_argument("--body-part", default="", help="that they show, for the card (default: the task's name)")
    parser.add_argument("--set", dest="settings", nargs="+", default=[], metavar="SETTING=VALUE", help="more settings for training")
    options = parser.parse_args()
    if options.phantom == (options.data is not None):
        parser.error("give the folder of a data set, or --phantom")
    return options


def held_out(root: Path, run: Path) -> list[Path]:
    """The scans that training never saw."""
    names = json.loads((run / "splits.json").read_text(encoding="utf-8"))["validation"]
    images = next(root / name for name in ("imagesTr", "images") if (root / name).is_dir())
    return sorted(
        path for path in images.glob("*.nii.gz") if any(re.fullmatch(rf"{re.escape(name)}(_0000)?\.nii\.gz", path.name) for name in names)
    )


@contextlib.contextmanager
def served(package: Path, out: Path) -> Iterator[str]:
    """`segpipe serve` in a process of its own; its address."""
    data, log = out / "server", out / "server.log"
    shutil.rmtree(data, ignore_errors=True)
    words = ["serve", str(package), "--port", "0", "--data", str(data), "--corrections", str(out / "corrected")]
    say(f"$ segpipe {shlex.join(words)}")
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "segpipe", *words], stdout=file, stderr=file)
    try:

        def address() -> str | None:
            if process.poll() is not None:
                raise SystemExit(f"segpipe serve ended:\n{log.read_text(encoding='utf-8')}")
            found = _STARTED.search(log.read_text(encoding="utf-8"))
            return found[1] if found else None

        yield wait(address)
    finally:
        process.terminate()
        process.wait(SECONDS)


def in_browser(address: str, scan: Path, picture: Path) -> str:
    """Segment a scan as a person does, and keep a picture of the page; the job's name, or nothing without a browser."""
    binary = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        binary = None
    if binary is None or driver is None:
        say("no browser to drive (chromium, chromedriver and the package selenium): over HTTP")
        return ""
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    words = [
        "headless=new",
        "use-gl=angle",
        "use-angle=swiftshader",
        "enable-unsafe-swiftshader",
        "disable-dev-shm-usage",
        "window-size=1360,900",
    ]
    if os.geteuid() == 0:
        words.append("no-sandbox")  # Chromium does not start as root with it
    for word in words:
        options.add_argument(f"--{word}")
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        browser.get(address)
        browser_says = browser.execute_script
        wait(lambda: browser_says("return document.documentElement.dataset.ready === 'yes'"))
        browser.find_element("id", "files").send_keys(str(scan.resolve()))
        browser.find_element("id", "send").click()

        def shown() -> bool:
            fault = browser_says(
                "return document.getElementById('new-error').textContent + document.getElementById('job-error').textContent"
            )
            if fault:
                raise SystemExit(f"the page says: {fault}")
            script = """const viewer = document.getElementById('viewer');
                return location.hash && document.getElementById('labels').dataset.job === location.hash.slice(1)
                    && !viewer.hidden && !viewer.hasAttribute('aria-busy')"""
            return bool(browser_says(script))

        wait(shown)
        browser.save_screenshot(str(picture))
        say(f"{picture}: the page with the scan and its labels")
        return str(browser_says("return location.hash.slice(1)"))
    finally:
        browser.quit()


def over_http(address: str, scan: Path) -> str:
    """Send a scan and wait for its label map; the job's name."""
    edge = "part-of-a-form"
    head = f'--{edge}\r\nContent-Disposition: form-data; name="files"; filename="{scan.name}"\r\nContent-Type: application/gzip\r\n\r\n'
    body = head.encode() + scan.read_bytes() + f"\r\n--{edge}--\r\n".encode()
    request = urllib.request.Request(f"{address}/v1/jobs", data=body, headers={"Content-Type": f"multipart/form-data; boundary={edge}"})
    job = json.loads(fetch(request))["id"]

    def ended() -> dict[str, Any] | None:
        found = json.loads(fetch(f"{address}/v1/jobs/{job}"))
        return found if found["ended"] else None

    found = wait(ended)
    if found["error"]:
        raise SystemExit(f"the server says: {found['error']}")
    for volume in found["volumes"]:
        say(f"  {volume['name']}: {volume['ml']} ml")
    return str(job)


def fetch(request: str | urllib.request.Request) -> bytes:
    """What the server answers; never through a proxy."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=SECONDS) as answer:
        return bytes(answer.read())


def wait(look: Callable[[], Any]) -> Any:
    """What `look` gives once it gives something."""
    end = time.monotonic() + SECONDS
    while not (found := look()):
        if time.monotonic() > end:
            raise SystemExit(f"waited in vain for {SECONDS:g} s")
        time.sleep(0.1)
    return found


def segpipe(*words: str | Path) -> None:
    """Show a command, then run it; stop where it fails."""
    arguments = [str(word) for word in words]
    say(f"$ segpipe {shlex.join(arguments)}")
    code = subprocess.run([sys.executable, "-m", "segpipe", *arguments], check=False).returncode
    if code:
        raise SystemExit(code)


def tell(headline: str) -> None:
    print(f"\n=== {headline}", flush=True)


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
