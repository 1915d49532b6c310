"""The server of the pages: what each address answers. It only reads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from torch import Tensor

from sagan.gallery.door import Door
from sagan.gallery.drawing import REACH, Ask, Painter
from sagan.gallery.library import Found, Library, Missing, details, read_grid, rows
from sagan.gallery.originals import Originals
from sagan.gallery.sweeps import sweep_details
from sagan.gallery.watching import Watch
from sagan.pages.render import asset, render
from sagan.run.folder import Run, snapshot_step
from sagan.system.errors import UserError
from sagan.system.paths import without_paths
from sagan.system.sentences import visible
from sagan.system.typed import Count, from_plain, parse_json, shorten
from sagan.viewing.figures import colours
from sagan.viewing.maps import LayerAttention, even_weight
from sagan.viewing.page import as_base64, as_light, describe_layer

_LARGEST_ASK = 2**16  # bytes of a request
_TYPES = {".js": "text/javascript", ".css": "text/css"}
STATIC = frozenset(
    {"style.css", "attention.js", "axis.js", "chart.js", "copy.js", "keep.js", "plot.js", "run.js", "runs.js"}
    | {"served.js", "served_studio.js", "status.js", "studio.js", "sweep.js"}
)


@dataclass(frozen=True)
class Draw:
    """A request to draw: the run, the step of its snapshot (by default the newest), and the pictures."""

    run: str
    ask: Ask
    step: Count | None = None


@dataclass(frozen=True)
class Look:
    """A request to say where a pixel of a drawn picture looks; ``judge``: in the layers of the discriminator, too. With
    ``real``, of the image of that number among those that the run was trained on, in the discriminator alone."""

    draw: Draw
    y: Count
    x: Count
    judge: bool = False
    real: Count | None = None


@dataclass(frozen=True)
class Real:
    """A request for an image that a run was trained on."""

    run: str
    number: Count


def make_app(root: Path, device: torch.device, hosts: frozenset[str] = frozenset(), token: str | None = None) -> Door:
    """The application over a folder of runs. ``hosts``: the names by which it may be asked for; any if there are none.
    ``token``: what the first address must hold; None where only this machine can ask."""
    gallery = Gallery(Library(root, Path.cwd()), Painter(device))
    routes = [
        Route("/", gallery.runs_page),
        Route("/run/{name:path}/", gallery.run_page),
        Route("/sweep/{name:path}/", gallery.sweep_page),
        Route("/studio", gallery.studio_page),
        Route("/static/{name}", gallery.static),
        Route("/api/runs.json", gallery.runs),
        Route("/api/events", gallery.events),
        Route("/api/run/{name:path}/curves.json", gallery.curves),
        Route("/api/run/{name:path}/grid/{step}.png", gallery.grid),
        Route("/api/run/{name:path}/model.json", gallery.model),
        Route("/api/run/{name:path}/facts.json", gallery.run),
        Route("/api/sweep/{name:path}.json", gallery.sweep),
        Route("/api/draw", gallery.draw, methods=["POST"]),
        Route("/api/look", gallery.look, methods=["POST"]),
        Route("/api/real", gallery.real, methods=["POST"]),
    ]
    handlers: dict[Any, Any] = {UserError: _say, HTTPException: _say, OSError: _say, Exception: _say_fault}

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await gallery.close()

    return Door(
        Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan), hosts, token, gallery.watch.close
    )


class Gallery:
    """What the addresses answer."""

    def __init__(self, library: Library, painter: Painter):
        self.library, self.painter = library, painter
        self.watch = Watch(library)
        self.originals = Originals(library.root)

    async def close(self) -> None:
        await run_in_threadpool(self.painter.close)

    # ---- pages

    async def runs_page(self, request: Request) -> Response:
        return HTMLResponse(served_page("runs.html", title=self.library.root.name))

    async def run_page(self, request: Request) -> Response:
        found = await self._found(request)
        return HTMLResponse(served_page("run.html", title=found.name, name=found.name))

    async def sweep_page(self, request: Request) -> Response:
        found = await self._found(request, sweep=True)
        return HTMLResponse(served_page("sweep.html", title=found.name, name=found.name))

    async def studio_page(self, request: Request) -> Response:
        return HTMLResponse(served_page("studio.html", title="Studio", colours=as_base64(torch.from_numpy(colours()))))

    async def static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in STATIC:
            raise Missing(f"there is no file {visible(name)}")
        return Response(asset(name).read_bytes(), media_type=_TYPES[Path(name).suffix])

    # ---- what is there

    async def _found(self, request: Request, *, sweep: bool = False) -> Found:
        return await run_in_threadpool(lambda: self.library.get(request.path_params["name"], sweep=sweep))

    async def runs(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(rows, self.library))

    async def run(self, request: Request) -> Response:
        found = await self._found(request)
        return JSONResponse(await run_in_threadpool(details, self.library, found))

    async def sweep(self, request: Request) -> Response:
        found = await self._found(request, sweep=True)
        return JSONResponse(await run_in_threadpool(sweep_details, found))

    async def curves(self, request: Request) -> Response:
        found = await self._found(request)
        curves, whole = self.library.curves(found), "whole" in request.query_params
        return JSONResponse(await run_in_threadpool(lambda: curves.read(whole=whole)))

    async def grid(self, request: Request) -> Response:
        found = await self._found(request)
        step = request.path_params["step"]
        if not (step.isdecimal() and step.isascii() and len(step) < 20):
            raise Missing(f"{visible(found.name)} has no grid of step {shorten(step)}")
        data = await run_in_threadpool(read_grid, self.library, found, int(step))
        return Response(data, media_type="image/png", headers={"cache-control": "no-cache"})

    async def events(self, request: Request) -> Response:
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        return StreamingResponse(self.watch.events(), media_type="text/event-stream", headers=headers)

    # ---- drawing

    def _snapshot_file(self, found: Found, step: int | None) -> Path:
        run = Run(found.folder)
        files = {snapshot_step(path): path for path in [*run.latest_snapshots(), *run.snapshots()]}
        if not files:
            raise Missing(f"{visible(found.name)} has no snapshot yet: wait until its training has saved one")
        chosen = max(files) if step is None else step
        if chosen not in files:
            raise Missing(f"{visible(found.name)} has no snapshot of step {chosen:,}")
        return self.library.file(found, "snapshots", files[chosen].name)

    async def model(self, request: Request) -> Response:
        """What a page must know of a run's newest generator to draw from it."""
        found = await self._found(request)
        path = await run_in_threadpool(self._snapshot_file, found, None)
        model = await run_in_threadpool(self.painter.model, path)
        _, strengths = await run_in_threadpool(lambda: model.directions)
        snapshot, generator, shape = model.snapshot, model.snapshot.generator, model.snapshot.generator.shape
        about = {
            "name": found.name,
            "place": self.library.place(found),
            "height": shape.height,
            "width": shape.width,
            "z_dim": generator.z_dim,
            "classes": list(snapshot.classes) or [str(number) for number in range(generator.num_classes)],
            "directions": len(strengths),
            "reach": REACH,
            "span": str(snapshot.config.model.span),
            "real": await run_in_threadpool(self.originals.count, snapshot),
        }
        return JSONResponse(about)

    async def draw(self, request: Request) -> Response:
        wanted = await _read(Draw, request)
        found = await run_in_threadpool(self.library.get, wanted.run)
        path = await run_in_threadpool(self._snapshot_file, found, wanted.step)
        drawn = await _while_connected(request, lambda: self.painter.draw(path, wanted.ask))
        return Response(_bytes([each.picture for each in drawn]), media_type="application/octet-stream")

    async def look(self, request: Request) -> Response:
        wanted = await _read(Look, request)
        if wanted.draw.ask.count != 1:
            raise UserError(f"count must be 1 to look from a picture, got {wanted.draw.ask.count}")
        found = await run_in_threadpool(self.library.get, wanted.draw.run)
        if wanted.real is None:
            path = await run_in_threadpool(self._snapshot_file, found, wanted.draw.step)
            (drawn,) = await _while_connected(request, lambda: self.painter.draw(path, wanted.draw.ask))
            picture, layers = drawn.picture, drawn.layers
        else:
            picture, layers = await run_in_threadpool(self._original, found, wanted.real), ()
        _, height, width = picture.shape
        if wanted.y >= height or wanted.x >= width:
            raise UserError(f"the picture has {height}x{width} pixels, got row {wanted.y}, column {wanted.x}")

        def looks() -> dict[str, Any]:
            judged, said = list[LayerAttention](), ""
            try:
                if wanted.judge or wanted.real is not None:
                    judged = self.painter.judged(Run(found.folder), picture)
            except UserError as error:
                if wanted.real is not None:
                    raise
                said = visible(str(error))  # the generator's layers are there all the same
            return {"layers": [_look(each, wanted.y, wanted.x, height) for each in (*layers, *judged)], "said": said}

        return JSONResponse(await run_in_threadpool(looks))

    async def real(self, request: Request) -> Response:
        wanted = await _read(Real, request)
        found = await run_in_threadpool(self.library.get, wanted.run)
        picture = await run_in_threadpool(self._original, found, wanted.number)
        return Response(_bytes([picture]), media_type="application/octet-stream")

    def _original(self, found: Found, number: int) -> Tensor:
        snapshot = self.painter.model(self._snapshot_file(found, None)).snapshot
        return self.originals.picture(Run(found.folder), snapshot, number)


def served_page(template: str, *, root: str = "/", live: bool = True, **values: object) -> str:
    """A page of the gallery. ``root``: the way to the first page; ``live``: whether a server answers it."""
    return render(template, root=root, live=live, **values)


def _bytes(pictures: Sequence[Tensor]) -> bytes:
    """Pictures uint8 (3, height, width) as a page takes them: three bytes a pixel, row by row."""
    return torch.stack(list(pictures)).permute(0, 2, 3, 1).contiguous().numpy().tobytes()


def _look(layer: LayerAttention, y: int, x: int, size: int) -> dict[str, Any]:
    """Where the query at a pixel looks, as ``attention.js`` draws it."""
    query = layer.query_at((y, x), size)
    weights = layer.weights(0, [query])
    inside = layer.measure_of(0, query)["inside"]
    even = torch.tensor([even_weight(layer.pattern, query)])
    return {
        **describe_layer(f"{layer.name}, step {layer.step:,}", layer.pattern, layer.gamma),
        "light": as_base64(as_light(weights, even)),
        "largest": weights.max().item(),
        "inside": inside,
    }


async def _read(kind: type[Any], request: Request) -> Any:
    """A request's body as a dataclass. Raises UserError for one that is too large, damaged or wrong."""
    body = b""
    try:
        async for part in request.stream():
            body += part
            if len(body) > _LARGEST_ASK:
                raise UserError(f"a request may have {_LARGEST_ASK:,} bytes")
    except ClientDisconnect:
        raise HTTPException(499, "the asker is gone") from None
    return from_plain(kind, parse_json(body, "the request"), "the request")


async def _while_connected(request: Request, work: Callable[[], Awaitable[Any]]) -> Any:
    """The result of some work, which is cancelled when the asker is gone."""
    task = asyncio.ensure_future(work())
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise HTTPException(499, "the asker is gone")
        return task.result()
    finally:
        for each in (task, gone):
            each.cancel()


async def _gone(request: Request) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(0.1)


# ---- what is wrong, in one sentence


async def _say(request: Request, error: Exception) -> Response:
    status = 404 if isinstance(error, Missing | FileNotFoundError) else 422
    text = visible(str(error))
    if isinstance(error, HTTPException):
        status = error.status_code
        text = {404: "there is no such page", 405: "this server only shows"}.get(status, text)
    return _answer(request, text, status)


async def _say_fault(request: Request, error: Exception) -> Response:
    return _answer(request, "this is a fault of the program: the terminal that runs `sagan serve` says more", 500)


def _answer(request: Request, text: str, status: int) -> Response:
    text = without_paths(text)
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": text}, status)
    return HTMLResponse(
        served_page("error.html", title="Not here" if status == 404 else "Not possible", said=text), status
    )
