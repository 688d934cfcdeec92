"""The examples run, and show what they promise."""

from __future__ import annotations

import ast
import runpy

import pytest

from minigraph.core.config import BACKENDS
from support.places import EXAMPLES

pytestmark = pytest.mark.shipped_code


def load(name):
    """An example as a dict of its names."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


ALL = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "command_line")
DRAWING = [name for name in ALL if "matplotlib" in (EXAMPLES / f"{name}.py").read_text()]
COMPILING = {"function", "recompute_population_statistics", "population_gap"}


@pytest.mark.parametrize("example", ALL)
def test_every_example_runs_on_any_backend_and_leaves_the_choice_to_the_engine(example, capsys):
    main = load(example)["main"]
    with pytest.raises(SystemExit):
        main(["--help"])
    assert f"--backend {{{','.join(BACKENDS)}}}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--backend", "abacus"])
    calls = [one for one in ast.walk(ast.parse((EXAMPLES / f"{example}.py").read_text())) if isinstance(one, ast.Call)]
    named = [
        (getattr(one.func, "attr", getattr(one.func, "id", None)), {given.arg for given in one.keywords}, one) for one in calls
    ]
    (option,) = [given for name, given, one in named if name == "add_argument" and one.args[0].value == "--backend"]
    assert "default" not in option
    assert not any(name == "eval" for name, _, _ in named)
    assert all("backend" in given for name, given, _ in named if name in COMPILING)


def test_digits_mlp_learns_switches_and_draws(tmp_path, capsys):
    picture = tmp_path / "curves" / "digits.png"
    example = load("digits_mlp")
    example["build"].__globals__["HIDDEN"] = (64, 64)
    runs = example["main"](["--epochs", "6", "--output", str(picture), "--seed", "3"])
    printed, progress = capsys.readouterr()
    assert "context manager and transform agree: yes" in printed and "recomputed" in printed
    assert "a fresh process predicts the same: yes" in printed
    assert progress == ""  # the progress bar is quiet off a terminal
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 20_000
    plain_low, normalized_low, plain_high, normalized_high = runs
    assert normalized_low.accuracies[-1] > 0.94 and normalized_low.recomputed_accuracy > 0.94
    assert normalized_low.accuracies[0] > plain_low.accuracies[0] + 0.1
    assert normalized_high.accuracies[-1] > 0.9 > plain_high.accuracies[-1]
    assert len(normalized_high.population_means) == len(normalized_high.minibatch_means) > 100


def test_sequential_digits_are_read_with_and_without_normalization(tmp_path, capsys):
    picture = tmp_path / "curves" / "digits.png"
    plain, normalized = load("sequential_digits_lstm")["main"](
        ["--epochs", "6", "--hidden", "24", "--learning-rate", "0.01", "--output", str(picture)]
    )
    printed, progress = capsys.readouterr()
    assert progress == "" and "batch-normalized LSTM" in printed
    assert (len(plain.losses), len(normalized.losses)) == (6, 3)
    assert plain.losses[-1] < 0.8 * plain.losses[0] and normalized.losses[-1] < 0.8 * normalized.losses[0]
    assert normalized.accuracies[-1] > 0.4
    assert [one.shape for one in normalized.population.values()] == [(64, 96)] * 4 + [(64, 24)] * 2
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 20_000


def test_digits_are_read_by_a_convolutional_network(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture = tmp_path / "output" / "digits_cnn.png"
    run = load("digits_cnn")["main"](["--epochs", "3"])
    printed, progress = capsys.readouterr()
    assert progress == "" and "folding changes logits" in printed
    assert run.losses[-1] < 0.5 * run.losses[0]
    assert run.accuracies[-1] > 0.9 and run.recomputed_accuracy > 0.9
    assert run.folded_difference < 1e-4
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 20_000


def test_logistic_regression_separates_two_digits(capsys):
    assert load("logistic_regression")["main"]([]) > 0.95
    assert "cost = " in capsys.readouterr().out


def test_conventions_trains_under_every_system_and_prints_what_is_stored(capsys):
    example = load("conventions")
    rows = example["main"](["--epochs", "1"])
    printed = capsys.readouterr().out
    assert len(rows) == len(example["SYSTEMS"]) == 10 and all(row in printed for row in rows)
    for row in rows:
        assert float(row[24:33].strip().rstrip("%")) > 60 and float(row[33:45].strip().rstrip("%")) > 80
    stored = [row.split("  ")[-1] for row in rows]
    assert "population_stdev" in stored[0] and "inv_std" in stored[1] and "weight_sum" in stored[5]


IMPOSSIBLE = {
    "--epochs": ("0", "-1", "1.5", "many"),
    "--steps": ("0", "-5", "many"),
    "--batch-size": ("1", "0", "-3", "100000", "1790"),
    "--learning-rate": ("nan", "inf", "0", "-1", "fast"),
    "--seed": ("-1", "1.5", "5000000000"),
    "--hidden": ("0", "-2"),
    "--output": ("curves.xyz", "curves", "/dev/null/curves.png", "."),
}


@pytest.mark.parametrize("example", ALL)
def test_examples_refuse_impossible_options_before_they_train(example, capsys):
    names = load(example)
    with pytest.raises(SystemExit):
        names["main"](["--help"])
    known = capsys.readouterr().out
    if "train" in names:
        names["main"].__globals__["train"] = None
    for option in IMPOSSIBLE.keys() & {one for one in IMPOSSIBLE if one in known}:
        for wrong in IMPOSSIBLE[option]:
            with pytest.raises(SystemExit):
                names["main"]([f"{option}={wrong}"])
            assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("example", DRAWING)
def test_the_folder_of_pictures_is_made_before_anything_is_trained(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def stop(*given):
        raise InterruptedError

    main = load(example)["main"]
    main.__globals__["load"] = stop
    with pytest.raises(InterruptedError):
        main([])
    assert (tmp_path / "output").is_dir()
    with pytest.raises(InterruptedError):
        main(["--output", "elsewhere/far/curves.png"])
    assert (tmp_path / "elsewhere" / "far").is_dir()


def test_graph_transforms_prints_what_it_did(capsys):
    load("graph_transforms")["main"]([])
    printed = capsys.readouterr().out
    assert "round trip is the identity: True" in printed and "matrix products" in printed
