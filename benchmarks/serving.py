"""What `sagan serve` bears: many clients that move a slider, an idle server, and a training beside it.

    python -m benchmarks.serving [--clients 50] [--seconds 60]

Each client moves a main direction and waits for the picture, then a tenth of a second, as a person's hand does, against
generators of 32x32 (preset quick) and 64x64 (the packaged faces64). Printed: the answers, those that were no picture,
the median and the 99th percentile of the time to a picture, the server's memory after a tenth of the time and at the
end, the share of a core that it takes while nobody asks, and what a training loses beside it. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np

from sagan.run.build import build_generator
from sagan.run.folder import Run
from sagan.run.places import find_snapshot
from sagan.run.presets import PRESETS
from sagan.run.weights import Snapshot, load_snapshot, save_snapshot

_HERE = Path(__file__).parents[1]


def make_runs(root: Path) -> dict[str, Path]:
    """Runs with one snapshot each, of 32x32 and of 64x64."""
    quick = PRESETS["quick"]
    small = Snapshot(build_generator(quick.model, 1).eval(), quick, 1, None, ())
    large = load_snapshot(find_snapshot(Path("pretrained:faces64")))
    runs = {}
    for name, snapshot in (("32x32", small), ("64x64", large)):
        run = Run.create(root / name, snapshot.config)
        save_snapshot(run.snapshot_file(snapshot.step), snapshot)
        runs[name] = run.folder
    return runs


class Server:
    """`sagan serve` over a folder, in a process of its own."""

    def __init__(self, root: Path):
        words = [sys.executable, "-m", "sagan", "serve", str(root), "--port", "0", "--device", "cpu"]
        environment = {**os.environ, "PYTHONPATH": str(_HERE / "src")}
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        found = re.search(r"http://\S+", said)
        assert found is not None, said
        self.address = found[0].rstrip("/")

    def memory(self) -> float:
        """MiB in use."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]

    def cpu(self) -> float:
        """Seconds of a core, so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


async def move_sliders(server: Server, run: str, clients: int, seconds: float) -> tuple[list[float], int, float]:
    """The seconds to each picture, the answers that were none, and the memory after a tenth of the time."""
    times: list[float] = []
    wrong, early = 0, 0.0
    end = time.monotonic() + seconds

    async def move(number: int) -> None:
        nonlocal wrong
        draw = random.Random(number)
        async with httpx.AsyncClient(verify=False, timeout=60) as client:
            while time.monotonic() < end:
                ask = {"seed": number, "along": [round(draw.uniform(-3, 3), 1)]}
                start = time.monotonic()
                answer = await client.post(f"{server.address}/api/draw", json={"run": run, "ask": ask})
                wrong += answer.status_code != 200
                times.append(time.monotonic() - start)
                await asyncio.sleep(0.1)

    async def remember() -> None:
        nonlocal early
        await asyncio.sleep(seconds / 10)
        early = server.memory()

    await asyncio.gather(remember(), *(move(number) for number in range(clients)))
    return times, wrong, early


def pace_beside(root: Path, server: Server, rounds: int = 6, seconds: float = 12) -> float:
    """The pace of a training whose page is open, as a share of its pace while the server stands still; in turns."""
    folder = root / "training"
    flags = ["--total_step", "1000000", "--log_step", "5", "--run_dir", str(folder)]
    words = [sys.executable, "-m", "sagan", "train", "--preset", "quick", *flags]
    environment = {**os.environ, "PYTHONPATH": str(_HERE / "src")}
    training = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    page = threading.Thread(target=_watch_page, args=(server.address, "training"), daemon=True)
    try:
        while _steps(folder) < 50:
            assert training.poll() is None, "the training has ended"
            time.sleep(0.5)
        page.start()
        paces: dict[bool, list[float]] = {True: [], False: []}
        for turn in range(2 * rounds):
            beside = turn % 4 in (1, 2)
            server.process.send_signal(signal.SIGCONT if beside else signal.SIGSTOP)
            time.sleep(1)
            before, start = _steps(folder), time.monotonic()
            time.sleep(seconds)
            paces[beside].append((_steps(folder) - before) / (time.monotonic() - start))
    finally:
        server.process.send_signal(signal.SIGCONT)
        training.terminate()
        training.wait()
    return float(np.mean(paces[True]) / np.mean(paces[False]))


def _steps(folder: Path) -> int:
    try:
        return 5 * (folder / "records.jsonl").read_bytes().count(b'"kind": "train"')
    except OSError:
        return 0


def _watch_page(address: str, run: str) -> None:
    """What an open page of a run asks for, until the server ends."""
    with (
        contextlib.suppress(httpx.TransportError),
        httpx.Client(timeout=60) as client,
        client.stream("GET", f"{address}/api/events") as events,
    ):
        for line in events.iter_lines():
            if line.startswith("data:"):
                for what in ("facts.json", "curves.json"):
                    client.get(f"{address}/api/run/{run}/{what}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = make_runs(Path(folder))
        server = Server(Path(folder))
        try:
            time.sleep(3)
            before, start = server.cpu(), time.monotonic()
            time.sleep(10)
            print(f"idle: {100 * (server.cpu() - before) / (time.monotonic() - start):.1f} % of a core")
            for run in runs:
                times, wrong, early = asyncio.run(move_sliders(server, run, flags.clients, flags.seconds))
                median, late = np.percentile(times, [50, 99])
                pace = len(times) / flags.seconds
                print(
                    f"{run}: {len(times):,} answers ({pace:.0f} a second), {wrong} without a picture; "
                    f"median {1000 * median:.0f} ms, 99th percentile {1000 * late:.0f} ms; "
                    f"memory {early:,.0f} MiB early, {server.memory():,.0f} MiB at the end",
                    flush=True,
                )
            share = pace_beside(Path(folder), server)
            print(f"a training whose page is open: {100 * share:.1f} % of its pace without the server")
        finally:
            server.close()


if __name__ == "__main__":
    main()
