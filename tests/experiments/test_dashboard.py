"""The page, its numbers and its W&B workspace, from synthetic runs of known differences (synthetic.py)."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from experiments.dashboard import main, write_page
from experiments.page import closed_form
from experiments.page.charts import log_ticks, mean_curve, thinned
from experiments.page.groups import compare, short, words
from experiments.page.panels import draw_panels
from experiments.page.verdicts import draw_verdicts
from experiments.page.workspace import as_json, workspace
from experiments.runs import load_runs
from tests.experiments.synthetic import write_run, write_sweep

SCHEDULE_PATH = "model.init_args.schedule.class_path"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return write_sweep(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture(scope="module")
def page(sweep, tmp_path_factory):
    return write_page(load_runs(sweep), tmp_path_factory.mktemp("page"))


def figures(page: Path) -> list[dict]:
    return [json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)</script>', page.read_text(), re.S)]


def said_of(runs: Path) -> list[dict]:
    drawn = draw_verdicts(compare(load_runs(runs)), [])
    assert drawn is not None
    return drawn.numbers


def test_groups_are_named_by_what_differs_and_paired_by_seed(sweep):
    comparison = compare(load_runs(sweep))
    assert [group.label for group in comparison.groups] == ["linear", "cosine"]
    assert [[run.seed for run in group.runs] for group in comparison.groups] == [[0, 1, 2], [0, 1, 2]]
    assert comparison.differing == ("schedule",)
    assert comparison.paths == (SCHEDULE_PATH,)
    assert comparison.title == "schedule: linear or cosine, on synthetic data"
    assert short(comparison.groups[0].settings["schedule"]) == "linear (beta_start=0.0001, beta_end=0.02)"  # num_steps is shared


@pytest.mark.parametrize(
    ("class_path", "said"),
    [
        ("a.b.LinearBetas", "linear"),
        ("a.ScaledLinearBetas", "scaled linear"),
        ("OffsetCosine", "offset cosine"),
        ("a.DPMSolverPP2M", "DPMSolverPP2M"),
        ("a.DDIM", "DDIM"),
        ("a.Eps", "eps"),
    ],
)
def test_class_names_in_words(class_path, said):
    assert words(class_path) == said


def test_a_sweep_of_a_number_is_labelled_and_sorted_by_it(tmp_path):
    comparison = compare(load_runs(write_sweep(tmp_path, ["Cosine"], [0, 1], [1e-2, 1e-4, 1e-3])))
    assert [group.label for group in comparison.groups] == ["lr 0.0001", "lr 0.001", "lr 0.01"]
    assert comparison.title == "lr: 0.0001, 0.001 or 0.01, on synthetic data"


def test_two_settings_make_labels_of_both(tmp_path):
    comparison = compare(load_runs(write_sweep(tmp_path, ["LinearBetas", "Cosine"], [0], [1e-3, 1e-4])))
    assert {group.label for group in comparison.groups} == {
        "linear · lr 0.001",
        "linear · lr 0.0001",
        "cosine · lr 0.001",
        "cosine · lr 0.0001",
    }


def test_groups_that_differ_in_two_settings_at_once_are_warned_of(tmp_path):
    write_run(tmp_path / "a", "LinearBetas", 0, rate=1e-3)
    write_run(tmp_path / "b", "Cosine", 0, rate=1e-4)
    comparison = compare(load_runs(tmp_path))
    assert [group.label for group in comparison.groups] == ["linear", "cosine"]
    assert "differ from linear in more than one setting (schedule, lr)" in write_page(load_runs(tmp_path), tmp_path / "out").read_text()
    assert "more than one setting" not in write_page(load_runs(tmp_path / "a"), tmp_path / "out").read_text()


def test_unfinished_runs_and_repeats_are_left_out_and_named(tmp_path):
    write_sweep(tmp_path, seeds=[0, 1])
    write_run(tmp_path / "broken", "Cosine", 2, state="failed")
    write_run(tmp_path / "repeat", "Cosine", 1, started="2026-01-09T00:00:00")
    comparison = compare(load_runs(tmp_path))
    assert [run.id for run in comparison.groups[1].runs] == ["synthetic_Cosine-0.002-0", "repeat"]
    assert {run.id: why for run, why in comparison.left_out} == {
        "broken": "state: failed",
        "synthetic_Cosine-0.002-1": "an earlier repeat of repeat",
    }
    assert "broken (state: failed)" in write_page(load_runs(tmp_path), tmp_path / "out").read_text()


def test_the_verdict_says_what_the_seeds_show(sweep):
    said = {item["metric"]: item for item in said_of(sweep)}
    bits = said["val/bits_per_dim"]
    assert bits["sentence"].startswith("cosine lower by 0.2") and bits["sentence"].endswith("3 of 3 seeds (0, 1, 2)")
    assert bits["low"] < -0.25 < bits["high"] < 0
    assert said["val/fd_digits_classifier"]["sentence"].startswith("no difference in FD shown with 3 seeds (0, 1, 2)")


def test_of_many_groups_those_without_a_difference_are_folded_away(tmp_path):
    write_sweep(tmp_path, ["LinearBetas", "Cosine", "Sigmoid", "ScaledLinearBetas", "OffsetCosine"])
    text = write_page(load_runs(tmp_path), tmp_path / "out").read_text()
    assert "No difference from linear shown for 4 of 4 groups" in text
    assert text.count("corrected for 4 comparisons") == 16


def test_values_measured_unlike_are_not_ranked(tmp_path):
    write_sweep(tmp_path)
    log = tmp_path / "synthetic_Cosine-0.002-1" / "metrics.jsonl"
    log.write_text(log.read_text().replace('"steps": 50', '"steps": 250'))
    said = {item["metric"]: item["sentence"] for item in said_of(tmp_path)}
    assert (
        said["val/fd_digits_classifier"] == "not ranked, because measured unlike: steps is 50 for linear, seed 0 and 250 for cosine, seed 1"
    )


def test_a_diverged_run_is_not_ranked_but_drawn(tmp_path):
    write_sweep(tmp_path)
    log = tmp_path / "synthetic_Cosine-0.002-1" / "metrics.jsonl"
    log.write_text(re.sub(r'"val/bits_per_dim": [\d.]+', '"val/bits_per_dim": "NaN"', log.read_text()))
    page = write_page(load_runs(tmp_path), tmp_path / "out")
    assert "Not ranked: seeds [1]: a value is not finite" in page.read_text()
    assert "NaN" not in (tmp_path / "out" / "numbers.json").read_text()
    assert len(figures(page)) == 16


def test_the_page_holds_everything_and_asks_for_nothing(page):
    text = page.read_text()
    for slug in (
        "verdict",
        "samples",
        "runs",
        "metrics",
        "curves",
        "noising",
        "denoising",
        "loss-by-noise",
        "fewer-steps",
        "exact",
        "measured",
    ):
        assert f'<section id="{slug}">' in text
    assert text.index('id="verdict"') < text.index('id="samples"') < text.index('id="runs"')

    class Links(HTMLParser):
        found: list[str] = []

        def handle_starttag(self, tag, attributes):
            self.found += [value for name, value in attributes if name in ("src", "href") and not value.startswith(("data:", "#"))]

    links = Links()
    links.feed(text)
    assert links.found == []
    assert "@import" not in text.split("</style>")[0] and "url(" not in text.split("</style>")[0]


def test_every_figure_is_one_that_plotly_accepts(page):
    import plotly.graph_objects as go

    drawn = figures(page)
    assert len(drawn) == 16
    for figure in drawn:
        plain = json.loads(re.sub(r'"@[a-z0-9]+(/[\d.]+)?"', '"#123456"', json.dumps(figure)))
        assert len(go.Figure(plain).data) > 1


def test_numbers_are_those_of_the_runs(sweep, page):
    numbers = json.loads((page.parent / "numbers.json").read_text())
    run = next(run for run in load_runs(sweep) if run.id == "synthetic_Cosine-0.002-1")
    metrics = numbers["panels"]["metrics"]
    assert metrics["val/bits_per_dim"]["groups"]["cosine"]["seeds"]["1"] == run.last("val/bits_per_dim")
    assert {row["run"] for row in numbers["panels"]["runs"]} == {run.id for run in load_runs(sweep)}
    steps = numbers["panels"]["fewer-steps"]["val/fd_by_steps"]["cosine"]
    assert steps["x"] == [5, 10, 20, 50, 100] and steps["seeds"]["1"] == [list(row) for row in run.tables["val/fd_by_steps"].rows]
    assert numbers["groups"]["cosine"]["runs"][0] == {
        "id": "synthetic_Cosine-0.002-0",
        "experiment": "synthetic_digits",
        "seed": 0,
    }


def test_yardsticks_stand_below_the_metrics(page):
    text = page.read_text()
    assert "Real images against other real images: 16.8." in text
    assert "On real images the judge is right in 99.1% of cases." in text


def test_pictures_that_every_seed_shares_are_shown_once(page):
    pictures = json.loads((page.parent / "numbers.json").read_text())["panels"]
    assert list(pictures["noising"]["val/noising"]) == ["0"] and list(pictures["samples"]["val/samples"]) == [
        "0",
        "1",
        "2",
    ]
    assert page.read_text().count("<img src=") == 14


def test_alpha_bar_has_the_golden_values(page):
    drawn = json.loads((page.parent / "numbers.json").read_text())["panels"]["noising"]["schedules"]
    at = {label: dict(zip(curve["t"], curve["alpha_bar"], strict=True)) for label, curve in drawn.items()}
    assert at["linear"][0.5] == pytest.approx(0.078587, abs=1e-6) and at["cosine"][0.5] == pytest.approx(0.493844, abs=1e-6)
    assert drawn["linear"]["share with alpha_bar < 0.01"] == pytest.approx(0.327, abs=0.005)
    assert drawn["cosine"]["share with alpha_bar < 0.01"] == pytest.approx(0.065, abs=0.005)


def test_the_exact_denoiser_panel_measures_the_lost_spread(page):
    rows = json.loads((page.parent / "numbers.json").read_text())["panels"]["exact"]["rows"]
    error = {(row["schedule"], row["sampler"].split(",")[0], row["steps"]): row["error"] for row in rows}
    for sampler in ("DDIM", "Ancestral (DDPM)", "Heun"):
        assert error["cosine", sampler, 10] < error["linear", sampler, 10]
        assert error["cosine", sampler, 1000] < error["cosine", sampler, 50] < error["cosine", sampler, 5]
    assert error["linear", "Heun", 50] < error["linear", "DDIM", 50] / 3
    assert {row["schedule"] for row in rows} == {
        "linear",
        "cosine",
        "scaled linear",
        "sigmoid",
        "offset cosine",
        "rectified flow",
    }


def test_loss_by_noise_is_also_drawn_at_equal_noise(sweep):
    config = load_runs(sweep)[0].config
    snr = closed_form.log_snr(config, [0.0, 0.5, 1.0])
    assert snr[0.5] == pytest.approx(-1.06914, abs=1e-4)  # log10(.078587 / .921413)
    assert 0.0 not in snr  # infinite


def test_missing_data_leaves_panels_out_and_says_so(tmp_path):
    folder = write_run(tmp_path / "bare", "Cosine", 0)
    (folder / "metrics.jsonl").write_text(
        '{"step": 1, "epoch": 0, "time": 0.1, "train/loss": 1.0}\n{"step": 2, "epoch": 0, "time": 0.2, "train/loss": 0.5}\n'
    )
    shutil.rmtree(folder / "media")
    text = write_page(load_runs(folder), tmp_path / "out").read_text()
    assert 'id="verdict"' not in text and 'id="curves"' in text and 'id="exact"' in text
    assert "Samples, from the same noise” needs val/samples" in text


def test_a_run_of_another_kind_has_a_page_too(tmp_path):
    folder = write_run(tmp_path / "vae", "Cosine", 0)
    (folder / "config.yaml").write_text("model: {class_path: lightning_modules.vae.VAE}\n")
    text = write_page(load_runs(folder), tmp_path / "out").read_text()
    assert 'id="exact"' not in text and 'id="samples"' in text and 'id="loss-by-noise"' in text


def test_one_run_is_described_and_not_ranked(tmp_path):
    folder = write_run(tmp_path / "one", "Cosine", 0)
    text = write_page(load_runs(folder), tmp_path / "out").read_text()
    assert re.search(r"<p class=\"sentence\">3\.\d+ with 1 seed \(0\); nothing to compare it with", text)
    assert '<nav class="legend"' not in text


def test_names_from_outside_are_escaped(tmp_path):
    folder = write_run(tmp_path / "x", "Cosine", 0)
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps(status | {"title": "<img src=x onerror=alert(1)>", "experiment": "a<b</script>"}))
    text = write_page(load_runs(folder), tmp_path / "out").read_text().split("plotly.js v")[0]
    assert "&lt;img src=x" in text and "<img src=x" not in text
    assert "a&lt;b" in text and "a<b" not in text


def test_the_workspace_has_the_same_panels(sweep):
    comparison = compare(load_runs(sweep))
    drawn, missing = draw_panels(comparison)
    assert missing == []
    built = as_json(workspace(comparison, drawn, "someone", "practicum"))
    sections = built["spec"]["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections] == [panel.title for panel, _ in drawn]
    kinds = {section["name"]: [panel["viewType"] for panel in section["panels"]] for section in sections}
    assert kinds["Samples, from the same noise"] == ["Media Browser"]
    assert kinds["While training"] == ["Run History Line Plot", "Run History Line Plot"]
    assert kinds["Metrics at the end of training"] == ["Bar Chart"] * 4
    runs = built["spec"]["section"]["runSets"][0]
    assert runs["filters"]["filters"][0]["value"] == [run.id for run in comparison.runs]
    assert runs["grouping"][0]["name"] == "model.value.init_args.schedule.class_path"
    assert sorted(built["spec"]["section"]["customRunColors"].values()) == ["#0072b2", "#d55e00"]
    assert "cosine lower by" in json.dumps(sections[0])


def test_the_verb_writes_page_and_workspace_offline(sweep, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert main([str(sweep), "--out", str(tmp_path), "--title", "A title", "--wandb"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "numbers.json", "workspace.json"}
    assert "<h1>A title</h1>" in (tmp_path / "index.html").read_text()
    assert "not saved to W&B" in capsys.readouterr().out


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no run folder there"):
        main([str(tmp_path)])
    with pytest.raises(ValueError, match="no such run"):
        main(["nothing_of_that_name"])


def test_importing_the_verb_does_not_import_torch():
    code = "import sys, experiments.dashboard; print([name for name in ('torch', 'plotly', 'wandb', 'scipy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_curves_are_averaged_at_shared_steps_only():
    means = mean_curve([[(1, 2.0), (2, 4.0), (3, 9.0)], [(1, 4.0), (2, 4.0)]])
    assert [(x, mean) for x, mean, _, _ in means] == [(1, 3.0), (2, 4.0)]
    assert means[0][2] == pytest.approx(3 - 12.706, abs=1e-3)  # Student's t with one degree of freedom
    assert mean_curve([[(1, 2.0)]]) == [(1, 2.0, None, None)]
    assert thinned([(step, float(step)) for step in range(1, 1001)], bins=10)[0] == (51, 50.5)


def test_log_ticks_name_few_numbers():
    assert log_ticks(0.02, 0.9)["ticktext"] == [
        "0.001",
        "0.002",
        "0.005",
        "0.01",
        "0.02",
        "0.05",
        "0.1",
        "0.2",
        "0.5",
        "1",
        "2",
        "5",
    ]
    assert log_ticks(1e-6, 1)["ticktext"][1] == "10<sup>-6</sup>"


def test_eps_with_a_schedule_that_ends_in_noise_is_explained(tmp_path):
    runs = write_sweep(tmp_path / "runs", seeds=(0,))
    assert "starts from a guess" not in write_page(load_runs(runs), tmp_path / "unknown").read_text()
    for config in runs.glob("*/config.yaml"):
        content = config.read_text()
        assert "optimizer:" in content
        config.write_text(content.replace(
            "    optimizer:", "    parameterization: {class_path: lightning_modules.diffusion.parameterizations.Eps}\n    optimizer:", 1))
    text = write_page(load_runs(runs), tmp_path / "eps").read_text()
    assert "cosine: at the end of this schedule almost no signal is left" in text
    assert closed_form.first_step_is_a_guess(compare(load_runs(runs))) == ["cosine"]


def test_where_the_bits_go_stands_below_them(tmp_path):
    runs = write_sweep(tmp_path / "runs", seeds=(0, 1))
    for number, record in enumerate(sorted(runs.glob("*/metrics.jsonl"))):
        with record.open("a") as file:
            for term, value in (("chain", 1.0 + number), ("decoder", 2.0)):
                file.write(json.dumps({"step": 2000, "epoch": 9, "time": 1.0, f"val/bits_by_term/{term}": value}) + "\n")
    text = write_page(load_runs(runs), tmp_path / "page").read_text()
    sorted_runs = [record.parent.name for record in sorted(runs.glob("*/metrics.jsonl"))]
    assert sorted_runs[0].startswith("synthetic_Cosine")
    assert "linear: chain 3.50 + decoder 2.00; cosine: chain 1.50 + decoder 2.00. The decoder is the last step" in text
