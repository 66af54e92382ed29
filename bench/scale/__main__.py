"""What operations cost as the platform grows, measured on real stacks of five services and real NATS.

    python -m bench.scale [--quick] [--out FILE] [PART ...]

Parts are replicas, tenants, pages, turns and sessions; all of them when none is named. CPU is that of all our processes
and of NATS, an operation, with the background work that the operation leaves behind. CPU can be compared on a machine
that others use too, where latencies cannot. A bare echo and a bare append stand beside it. Nothing is asserted: the
table says what must hold, and what is missed.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click
import uvloop

from bench.quality.report import RESULTS
from bench.scale.meter import OutOfTime, Results
from bench.scale.parts import PARTS
from bench.scale.plan import FULL, QUICK
from bench.scale.report import keep, show, write_rows


@click.command()
@click.option("--quick", is_flag=True, help="Smaller values and shorter measurements: a quarter of an hour at most.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the rows here, a JSON array.")
@click.argument("parts", nargs=-1, type=click.Choice(tuple(PARTS)))
def main(*, quick: bool, out: Path | None, parts: tuple[str, ...]) -> None:
    """Measure PARTS and print a table. Without --out they are kept in bench/results/scale.json, each for itself."""
    results = Results(QUICK if quick else FULL)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_measure(results, parts or tuple(PARTS)))
    show(results)
    if out is not None:
        write_rows(out, results)
    else:
        keep(RESULTS / "scale.json", results, quick=quick)


async def _measure(results: Results, parts: Sequence[str]) -> None:
    """Measure part after part, as far as there is time."""
    for number, name in enumerate(parts):
        click.echo(name, err=True)
        part = results.begin_part(name, parts[number + 1 :])
        with suppress(OutOfTime):
            await PARTS[name](results)
            part.whole = True


if __name__ == "__main__":
    main()
