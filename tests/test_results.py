"""The figures in the repository are those of the recipes and rows as they are."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import pytest

from adapters_xtl import methods
from adapters_xtl.backbones.registry import MINI_CONFIG
from adapters_xtl.backbones.shape import shape
from adapters_xtl.base.errors import RequestError
from adapters_xtl.base.files import canonical, read_json
from adapters_xtl.base.statistics import t_quantile
from adapters_xtl.methods import ModuleSpec
from adapters_xtl.planning.memory_plan import plan_memory
from adapters_xtl.planning.plan import Planner
from adapters_xtl.runs.request import Request
from adapters_xtl.runs.settings import parse_override
from adapters_xtl.runs.store import Store
from benchmarks import speed_page

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"


def test_zero_shot_xnli_on_the_sample_rows(tmp_path: Path) -> None:
    """25 points over chance in each language, by the settings of its command, on the rows that ship."""
    found = read_json(RESULTS / "xnli-embedded.json")
    asked = Request(
        task="xnli",
        backbone="mini",
        data="embedded",
        device="cpu",
        overrides=tuple(parse_override(text) for text in found["command"].split(" --set ")[1:]),
    )
    planned = Planner(Store(tmp_path)).plan(asked)
    assert planned.target is not None
    now, then = planned.target.run.identity(), found["run"]
    changed = [
        key
        for key in ("tasks", "backbone", "method", "options", "hyper", "seed")
        if canonical(now[key]) != canonical(then[key])
    ]
    # behind the files, a run's identity now names the ids of reported rows that select is held
    # against: the files themselves come first, as they did then
    changed += [
        key for key, files in then["data"].items() if list(now["data"][key])[: len(files)] != files
    ]
    assert not changed, f"{changed} changed: make the figure again ({found['command']})"
    scores = {
        code: entry["accuracy"]
        for code, entry in found["metrics"]["tasks"]["xnli"]["languages"].items()
    }
    assert {"en", "de", "es", "fr", "zh", "hi", "ar"} <= set(scores)
    assert min(scores.values()) >= 100 / 3 + 25


def _line(row: dict[str, Any]) -> str:
    score, gap = row["score"], row["gap_to_full"]
    cells = [
        row["task"],
        row["method"],
        f"{row['bits']}",
        ">".join(row["parents"]) or "-",
        f"{score['mean']:.1f} ({score['interval'][0]:.1f}…{score['interval'][1]:.1f})",
        f"{gap['mean']:+.1f} ({gap['interval'][0]:+.1f}…{gap['interval'][1]:+.1f})" if gap else "",
        f"{row['trainable_parameters'] / 1e6:.2f} M",
        f"{row['stored_bytes'] / 1e6:.1f} MB",
        f"{row['peak_memory_bytes'] / 2**30:.1f} GiB",
        f"{row['seconds']:.0f} s",
    ]
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


def test_the_page_of_the_comparison_shows_what_its_files_hold() -> None:
    page = (RESULTS / "compare-mini" / "README.md").read_text(encoding="utf-8").splitlines()
    found = [
        read_json(path) for path in sorted((RESULTS / "compare-mini").glob("*/comparison.json"))
    ]
    lines = [_line(row) for comparison in found for row in comparison["rows"]]
    names = {row["task"] for comparison in found for row in comparison["rows"]}
    shown = [line for line in page if line.count("|") == 11 and line[2:].split(" ")[0] in names]
    assert sorted(shown) == sorted(lines)
    for comparison in found:
        assert (
            all(len(row["score"]["seeds"]) == 3 for row in comparison["rows"])
            and not comparison["failed"]
        )


def test_the_page_of_the_defaults_shows_every_trial_and_the_defaults_are_of_them(
    tmp_path: Path,
) -> None:
    folder = RESULTS / "defaults-mini"
    page = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    counts = set()
    for row in (
        row
        for task in ("panx", "udpos", "mnli", "csqa", "squad1")
        for row in read_json(folder / f"{task}.json")["rows"]
    ):
        tried = []
        for trial in row["trials"]:
            values = dict(trial["values"])
            rate = values.pop("train.lr")
            ((key, option),) = values.items()
            name = key.removeprefix("method.")
            tried.append((rate, option))
            line = f"| {row['task']} | {row['method']} | {rate:g} | {name} {option} | {trial['select']:.1f} |"
            assert line in page
        counts.add(len(tried))
        method = methods.load(row["method"])
        spec = ModuleSpec(method.defaults_on("mini"), shape(MINI_CONFIG))
        assert (method.rate_on("mini"), method.check(spec)[0][name]) in tried
    assert counts == {6}, "as many trials for each method"
    defaults = {"bottleneck": (1e-3, "reduction_factor", 4), "lora": (1e-3, "lora_alpha", 32)}
    chance = {"mnli": 100 / 3, "csqa": 20, "squad1": 10, "panx": 10, "udpos": 10}
    for task, guess in chance.items():
        for row in read_json(folder / f"{task}.json")["rows"]:
            rate, name, option = defaults[row["method"]]
            (select,) = [
                trial["select"]
                for trial in row["trials"]
                if trial["values"] == {"train.lr": rate, f"method.{name}": option}
            ]
            assert select > guess + 8, f"{task}, {row['method']}: the default learns nothing"
    for task in ("panx", "udpos"):
        planned = Planner(Store(tmp_path)).plan(
            Request(task=task, backbone="mini", data="embedded", device="cpu")
        )
        assert planned.target is not None and planned.target.run.hyper.lr == 3e-3
    for row in read_json(folder / "panx-methods.json")["rows"]:
        score, gap = row["score"], row["gap_to_full"]
        shown = [
            f"{value['mean']:{sign}.1f} ({low:{sign}.1f}…{high:{sign}.1f})"
            for value, sign in ((score, ""), (gap, "+"))
            if value
            for low, high in [value["interval"]]
        ]
        assert f"| {row['method']} | {' | '.join(shown)} |".strip() in [
            line.replace(" |  |", " |") for line in page
        ]


def test_the_table_of_the_readme_is_measured_and_planned() -> None:
    """The methods' scores and costs, and which of them `xtl plan` lets on which card."""
    page = (RESULTS.parent.parent / "README.md").read_text(encoding="utf-8").splitlines()
    cards = {row["method"]: row["cards"] for row in read_json(RESULTS / "card-memory.json")["rows"]}
    for row in read_json(RESULTS / "defaults-mini" / "panx-methods.json")["rows"]:
        cells = [
            row["method"],
            f"{row['score']['mean']:.1f}",
            f"{row['trainable_parameters'] / 1e6:.1f} M",
            f"{row['stored_bytes'] / 1e6:.1f} MB",
            f"{row['peak_memory_bytes'] / 2**30:.1f} GiB",
            f"{row['seconds']:.0f}",
        ]
        for card in ("8", "16"):
            plan = cards[row["method"]][card]
            if plan["fits"]:
                cells.append(f"{plan['needs_bytes'] / 2**30:.1f} GiB")
            else:
                needed = float(plan["error"].split(" needs ")[1].split(" GiB")[0])
                cells.append(f"does not fit ({needed:.1f} GiB)")
        assert f"| {' | '.join(cells)} |" in page
        assert row["score"]["n"] == 3 and len(row["languages"]) == 24


def test_which_method_fits_which_card_is_what_the_planner_says_now(tmp_path: Path) -> None:
    for row in read_json(RESULTS / "card-memory.json")["rows"]:
        for card, plan in row["cards"].items():
            asked = Request(
                task="panx",
                method=row["method"],
                backbone="xlmr-large",
                device="cuda",
                memory=float(card),
                overrides=(
                    ("train.max_length", 128),
                    ("train.batch_size", 32),
                    ("train.optimizer", "adamw"),
                ),
            )
            if not plan["fits"]:
                with pytest.raises(RequestError) as refused:
                    plan_memory(asked)
                assert str(refused.value) == plan["error"]
                continue
            planned = plan_memory(asked)
            assert planned.fits[planned.target].needs == plan["needs_bytes"]


def test_the_first_commands_output_is_that_of_its_recorded_run() -> None:
    found = read_json(RESULTS / "mnli-embedded.json")
    page = (RESULTS.parent.parent / "README.md").read_text(encoding="utf-8")
    assert f"run {found['id']}" in page and f"{found['wall_seconds']:.0f} seconds" in page
    scored = found["zero_shot"]["tasks"]["xnli"]
    for language, entry in scored["languages"].items():
        assert f"│ {language}            │ {entry['accuracy']:>16.2f} │" in page
    assert found["wall_seconds"] < 180, "the first result takes less than three minutes"


def test_a_cpus_defaults_score_like_the_libraries_layers() -> None:
    """No significant difference (Welch's t); the figures of the pages are the record's."""
    record = read_json(RESULTS / "cpu-defaults.json")
    pages = [RESULTS / "README.md", RESULTS.parent.parent / "README.md"]
    listed, first = (path.read_text(encoding="utf-8") for path in pages)
    for task in ("mnli", "xnli"):
        defaults, libraries = (
            [run[task] for run in record["runs"] if run["settings"] == settings]
            for settings in ("defaults", "libraries")
        )
        assert len(defaults) == len(libraries) == 3
        one, other = (stdev(scores) ** 2 / 3 for scores in (defaults, libraries))
        degrees = 2 * (one + other) ** 2 / (one**2 + other**2)
        widest = t_quantile(0.975, int(degrees)) * (one + other) ** 0.5
        assert abs(fmean(defaults) - fmean(libraries)) < widest
        assert f"{fmean(defaults):.1f} and {fmean(libraries):.1f} %" in listed
        if task == "mnli":
            shown = (
                f"{fmean(defaults):.1f} % with a CPU's defaults and {fmean(libraries):.1f} % with"
            )
            assert shown in first


def test_the_page_of_the_matrix_shows_what_its_cells_hold() -> None:
    """The page's table is the study's own, and each difference is that of the cells' seeds."""
    folder = RESULTS / "transfer-mini"
    page = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [
        line
        for line in (folder / "transfer-lora.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    assert len(rows) == 8 and [line for line in page if line in rows] == rows
    study = read_json(folder / "study.json")
    assert not study["failed"] and study["seeds"] == [1, 2, 3]
    assert all(
        cell["state"] == "done" and cell["runs"] == cell["expected"] for cell in study["cells"]
    )
    (table,) = [table for table in study["tables"] if table["name"] == "transfer-lora"]
    shown = {
        (line["label"], column): entry
        for line in table["lines"]
        for column, entry in zip(table["columns"], line["entries"], strict=True)
    }
    scores = {
        (">".join(row["on"]) or "none", row["task"]): row["score"]["mean"] for row in study["rows"]
    }
    for (on, task), score in scores.items():
        base = 0.0 if on == "none" else scores["none", task]
        assert shown[on, task]["value"] == pytest.approx(score - base)
    assert len(scores) == 6 * 6  # intermediates and targets


def test_the_page_of_the_representations_shows_what_its_study_holds() -> None:
    """Its tables are those of the study, and what it says of controls and seeds is in the record."""
    folder = RESULTS / "representation-mini"
    page = (folder / "README.md").read_text(encoding="utf-8")
    for name in ("controls-xnli-lora.md", "language-and-retrieval-xnli-lora.md"):
        rows = [
            line
            for line in (folder / name).read_text(encoding="utf-8").splitlines()
            if line.startswith("|")
        ]
        assert len(rows) == 8 and "\n".join(rows) in page
    study = read_json(folder / "study.json")
    tables = {table["name"]: table for table in study["tables"]}
    controls = tables["controls-xnli-lora"]
    fit, shuffled = (
        [line["entries"][controls["columns"].index(name)]["value"] for line in controls["lines"]]
        for name in ("ρ", "ρ, shuffled features")
    )
    assert min(fit[:5]) > 76 and fit[5] < 46 and max(map(abs, shuffled)) < 4
    for row in study["rows"]:
        seeds = row["score"]["seeds"].values()
        if row["on"] in (["pawsx"], ["mnli", "pawsx"]):
            assert "{:.1f}, {:.1f} and {:.1f}".format(*seeds) in page


def test_the_page_of_few_shot_transfer_shows_what_its_study_holds() -> None:
    """Its tables are those of the study; scores and gains are means of the cells' seeds."""
    folder = RESULTS / "few-shot-mini"
    page = (folder / "README.md").read_text(encoding="utf-8")
    for name in ("scores-sequential-lora.md", "gains-sequential-lora.md"):
        rows = (folder / name).read_text(encoding="utf-8").splitlines()
        assert "\n".join(line for line in rows if line.startswith("|")) in page
    study = read_json(folder / "study.json")
    scores, gains = (
        {
            (line["label"], k): entry["value"]
            for line in table["lines"]
            for k, entry in zip(table["columns"], line["entries"], strict=True)
        }
        for name in ("scores-sequential-lora", "gains-sequential-lora")
        for table in study["tables"]
        if table["name"] == name
    )
    means: dict[tuple[str, str], list[float]] = {}
    for row in study["rows"]:
        point = row["point"]
        place = f"{row['task']} in {point['language']}, {point['on']}", f"k={point['k']}"
        means.setdefault(place, []).append(row["score"]["mean"])
    assert {len(values) for (_, k), values in means.items() if k != "k=0"} == {3}  # buckets
    assert scores == pytest.approx({place: fmean(values) for place, values in means.items()})
    for (label, k), gain in gains.items():
        without = scores[label.replace(", squad1", ", none"), k]
        assert gain == pytest.approx(scores[label, k] - without)
    assert len(gains) == 12 and not study["failed"]
    buckets = means["panx in ar, none", "k=4"]
    assert f"from {min(buckets):.1f} to {max(buckets):.1f}" in page


def test_the_page_of_the_order_shows_what_its_study_holds() -> None:
    """Its tables are those of the study; differences and changes are those of the conditions."""
    folder = RESULTS / "order-mini"
    page = (folder / "README.md").read_text(encoding="utf-8")
    study = read_json(folder / "study.json")
    tables = {table["name"]: table for table in study["tables"]}
    for compose in ("init", "stack"):
        place = f"mnli+squad1-{compose}-lora-60"
        for name in ("scores", "forgetting"):
            rows = (folder / f"{name}-{place}.md").read_text(encoding="utf-8").splitlines()
            assert "\n".join(line for line in rows if line.startswith("|")) in page
        scores, differences, forgetting = (
            {
                line["label"]: [entry["value"] for entry in line["entries"]]
                for line in tables[f"{name}-{place}"]["lines"]
            }
            for name in ("scores", "differences", "forgetting")
        )
        (order,) = differences["(mnli → squad1) − (squad1 → mnli)"]
        (first,), (second,) = scores["mnli → squad1"], scores["squad1 → mnli"]
        assert order == pytest.approx(first - second)
        own = forgetting["after its own training (half of the steps)"]
        later = forgetting["after the other task"]
        lost = [line["entries"] for line in tables[f"forgetting-{place}"]["lines"]][2]
        assert [entry["value"] for entry in lost] == pytest.approx(
            [after - before for before, after in zip(own, later, strict=True)]
        )
        assert f"by {-lost[1]['value']:.1f}" in page
    assert study["seeds"] == [1, 2, 3, 4, 5] and not study["failed"]


def test_the_page_of_the_shift_shows_what_its_study_holds() -> None:
    """Differences of differences are those of the cells' seeds, and the page's rows the study's."""
    folder = RESULTS / "shift-mini"
    page = (folder / "README.md").read_text(encoding="utf-8")
    rows = (folder / "changes-lora.md").read_text(encoding="utf-8").splitlines()
    assert "\n".join(line for line in rows if line.startswith("|")) in page
    study = read_json(folder / "study.json")
    drops, changes = (
        {line["label"]: line["entries"] for line in table["lines"]}
        for name in ("drops-lora", "changes-lora")
        for table in study["tables"]
        if table["name"] == name
    )
    for label, entries in changes.items():
        without = drops[label.replace(", squad1", ", none")]
        inside, outside, drop, relative = (entry["value"] for entry in drops[label])
        assert drop == pytest.approx(inside - outside)
        assert entries[0]["value"] == pytest.approx(drop - without[2]["value"])
        assert entries[1]["value"] == pytest.approx(relative - without[3]["value"])
    assert len(changes) == 7 and not study["failed"]


def test_the_page_of_the_upper_layers_shows_what_its_study_holds() -> None:
    """Its tables are those of the study, and their scores means of the cells' seeds; seconds are
    those of the trainings without those in which states were computed.
    """
    folder = RESULTS / "from-layer-mini"
    page = (folder / "README.md").read_text(encoding="utf-8")
    for name in ("scores", "differences", "seconds"):
        rows = (folder / f"{name}.md").read_text(encoding="utf-8").splitlines()
        assert "\n".join(line for line in rows if line.startswith("|")) in page
    study = read_json(folder / "study.json")
    assert not study["failed"] and len(study["rows"]) == 8
    tables = {
        table["name"]: {line["label"]: line["entries"] for line in table["lines"]}
        for table in study["tables"]
    }
    for row in study["rows"]:
        point = row["point"]
        number = [0, 3, 6, 9].index(int(point["layer"]))
        label = f"{point['task']}, {point['method']}"
        score = fmean(run["score"] for run in row["runs"])
        assert len(row["runs"]) == 3
        assert tables["scores"][label][number]["value"] == pytest.approx(score)
        seconds = tables["seconds"][label][number]["value"]
        most = tables["computing"][label][number]["value"]
        assert -1e-6 <= row["seconds"] - seconds <= most + 0.1
        whole = f"{row['seconds']:.1f}"
        assert f"| {whole} " in page
        if number:
            change = score - tables["scores"][label][0]["value"]
            assert tables["differences"][label][number - 1]["value"] == pytest.approx(change)


def test_the_page_of_speed_is_written_from_its_files(tmp_path: Path) -> None:
    """And each ratio in them is that of the seconds of its round."""
    files = sorted((RESULTS / "speed").glob("*.json"))
    for path in files:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    speed_page.write(tmp_path)
    written = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert (RESULTS / "speed" / "README.md").read_text(encoding="utf-8") == written
    for path in files:
        record = read_json(path)
        for name, line in record["summary"].items():
            for other in record["summary"]:
                key = f"faster_than_{other}"
                ratios = [
                    one["contenders"][other]["seconds"] / one["contenders"][name]["seconds"]
                    for one in record["rounds"]
                    if {name, other} <= set(one["contenders"])
                ]
                if key in line and name != other:
                    assert line[key]["pairs"] == pytest.approx(ratios, abs=1e-3)
                    assert line[key]["median"] == pytest.approx(median(ratios), abs=1e-3)
    assert {"train-pairs-lora-mini-cpu.json", "encode-mini-cpu.json"} <= {
        path.name for path in files
    }
