"""`xtl plan`: the memory that a training will need, and the fastest way that fits a budget."""

from __future__ import annotations

from typing import Annotated

import typer

from adapters_xtl import methods
from adapters_xtl.base.errors import Problems
from adapters_xtl.cli.flags import (
    AskedTask,
    Backbone,
    Bits,
    Compose,
    Data,
    DataFile,
    Device,
    FromLayer,
    Json,
    Label,
    Method,
    On,
    Runs,
    SelectFile,
    Set,
    SetParents,
    TestFile,
    TextColumns,
    answer,
    number_for,
)

__all__ = ["plan"]


def plan(
    task: AskedTask,
    memory: Annotated[
        float | None,
        typer.Option(
            "--memory",
            metavar="GB",
            parser=number_for("--memory"),
            help="Budget in GiB; on CUDA by default the device's.",
        ),
    ] = None,
    on: On = "",
    compose: Compose = None,
    method: Method = methods.DEFAULT,
    backbone: Backbone = None,
    data: Data = None,
    data_file: DataFile = [],
    select_file: SelectFile = [],
    test_file: TestFile = [],
    text_columns: TextColumns = "",
    label: Label = "",
    bits: Bits = "auto",
    device: Device = "auto",
    from_layer: FromLayer = 0,
    set_: Set = [],
    set_parents: SetParents = [],
    runs: Runs = "runs",
    as_json: Json = False,
) -> None:
    """Predict a training's memory and the fastest way that fits a budget, from the config alone;
    train nothing.
    """
    from adapters_xtl.cli.commands import plan as command
    from adapters_xtl.cli.commands.recipe import request

    problems = Problems()
    plan_request = request(
        problems=problems,
        task=task,
        on=on,
        compose=compose,
        method=method,
        backbone=backbone,
        data=data,
        data_file=data_file,
        select_file=select_file,
        test_file=test_file,
        text_columns=text_columns,
        label=label,
        bits=bits,
        device=device,
        from_layer=from_layer,
        set_=set_,
        set_parents=set_parents,
        runs=runs,
    )
    answer(as_json, lambda: command.plan(plan_request, memory, problems))
