"""A race of recipes on a competition: which settings help here, decided on pairs, within a budget of time.

    kagglekit race work=runs/bbc budget=2h
    kagglekit race recipes=fgm,ema,mine.json folds=0,1 -- max_length=128
    kagglekit race work=runs/bbc on=ray://head:10001 gpus=0.5

All recipes are trained on the same folds and seeds as the base. Those that cannot win any more stop; the best are
combined; the winner and the base are trained again on folds that did not choose it, and that difference is what is
promised. What was trained stays in WORK/race: the same command goes on where it was stopped. With on=ray (this machine)
or on=ray://HOST:10001 cells are trained on a Ray cluster; gpus= and cores= are what each gets, cores=1 by default.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from filelock import Timeout

from kagglekit.files import file_lock, resolve, shorten
from kagglekit.gains.arms import choose_recipes, describe_nothing, make_arms, read_base
from kagglekit.gains.race_run import RaceRun, read_asked, write_help
from kagglekit.running.arguments import choose_shared, read_arguments
from kagglekit.running.command_line import Parser, Where, program
from kagglekit.running.notebook import find_notebook

FOLDER = "race"  # in a work folder


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = Parser(program("race"), add_help=False)
    parser.takes = "name=value"
    parser.add_argument("parameters", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_intermixed_args(arguments[:cut])
    if options.help:
        print(write_help(__doc__))
        return 0
    try:
        where, texts = Where.take(options.parameters)
        asked = read_asked(read_arguments(texts))
        if where.storage:
            raise ValueError("storage= is for the folds of 3_train: a cell that is lost begins again, leave it out")
        if where.on and asked.at_once:
            raise ValueError("at_once= is for this machine: with on= cores= and gpus= say how many cells fit")
        given = choose_shared(find_notebook("3_train"), read_arguments(arguments[cut + 1 :]))
        run_race(asked, given, where)
        return 0
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from there", file=sys.stderr)
        return 130
    except SystemExit as error:
        if error.code != 143:
            raise
        print("\nended by SIGTERM; the same command goes on from there", file=sys.stderr)
        return 143
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1


def run_race(asked: RaceRun, given: Mapping[str, Any], where: Where) -> None:
    """Race, and say how it ended. given: settings of the base. where: cells are trained, here or on a cluster. Raises
    ValueError, OSError or ModuleNotFoundError for what is wrong."""
    work = resolve(asked.work)
    if not (work / "task.json").is_file():
        raise FileNotFoundError(f"work={asked.work!r} has no task.json: run 1_eda first, with the same work=")
    base = read_base(work, asked.base, given)
    recipes = choose_recipes(asked.recipes)
    plain = {name: one for name, one in recipes.items() if not one.times}
    arms, left_out = make_arms(work, base, plain)
    if not arms and plain == recipes:  # told before torch is loaded
        raise ValueError(describe_nothing(left_out))
    try:
        held = file_lock(work / FOLDER).acquire(timeout=0)
    except Timeout:
        raise ValueError(f"another race of {shorten(work)} is under way: wait for it, or stop it") from None
    with held, ExitStack() as stack:
        elsewhere = None
        if where.on:
            from kagglekit.gains.ray_cells import RayCells

            elsewhere = stack.enter_context(RayCells.on(where))
        from kagglekit.gains.racing import Racing

        Racing(work, asked, base, recipes, elsewhere).run()


if __name__ == "__main__":
    sys.exit(main())
