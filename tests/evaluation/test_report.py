import csv
import io
import json
from dataclasses import replace

import pytest
from PIL import Image
from rich.console import Console

from segpipe.evaluation.folder import Evaluation
from segpipe.evaluation.metric import METRICS, shown_metrics
from segpipe.evaluation.plots import box_plot
from segpipe.evaluation.report import to_csv, to_json
from segpipe.evaluation.scores import CaseScores, LabelScore
from segpipe.evaluation.summary import summarise
from segpipe.evaluation.table import case_table, remarks, summary_table

SCORE = LabelScore(0.9, 0.8, 1.5, 0.25, 0.95, -0.5, -0.1, 5.0, 4.5, "")


@pytest.fixture
def evaluation():
    return Evaluation(
        labels={1: "Anterior", 4: "Pösterior"},
        background=0,
        cases=(CaseScores("sub/a", {1: SCORE, 4: SCORE}, (1, 4), (1, 4), 0.125), CaseScores("b, [bold]", {1: SCORE}, (1,), (1,), 0.25)),
        errors={"c": "prediction holds fractions"},
        without_prediction=("d", "e"),
        without_truth=("extra",),
        warnings=("no label in common",),
    )


@pytest.fixture
def summaries(evaluation):
    return summarise(evaluation, 200, 0)


def shown(*items) -> str:
    console = Console(width=80, file=io.StringIO(), record=True)
    for item in items:
        console.print(item)
    return console.export_text()


def test_json_has_the_promised_shape_without_nan(evaluation, summaries):
    document = json.loads(json.dumps(to_json(evaluation, summaries, 1.0, 200, 0), allow_nan=False))
    assert document["labels"] == {"1": "Anterior", "4": "Pösterior"}
    assert [(row["case"], row["label"], row["dice"]) for row in document["cases"]] == [
        ("sub/a", "1", 0.9), ("sub/a", "4", 0.9), ("b, [bold]", "1", 0.9), ("b, [bold]", "4", None),
    ]  # fmt: skip
    assert document["cases"][0]["hd95_mm"] == 1.5
    assert document["cases"][0]["pixel_error"] == 0.125
    assert document["cases"][3]["note"] == "empty in truth and prediction"
    assert document["summary"]["1"]["dice"]["mean"] == pytest.approx(0.9)
    assert document["summary"]["1"]["dice"]["ci95"] == pytest.approx([0.9, 0.9])
    assert document["summary"]["4"]["dice"]["ci95"] is None
    assert document["summary"]["4"]["dice"]["undefined"] == 1
    assert document["summary"]["mean"]["pixel_error"]["mean"] == pytest.approx(0.1875)
    assert document["missing"] == {"prediction": ["d", "e"], "truth": ["extra"]}
    assert document["errors"] == [{"case": "c", "error": "prediction holds fractions"}]


def test_csv_has_a_row_a_case_and_label_with_fixed_decimals(evaluation):
    rows = list(csv.DictReader(io.StringIO(to_csv(evaluation))))
    assert [(row["case"], row["label"]) for row in rows[:4]] == [("sub/a", "1"), ("sub/a", "4"), ("b, [bold]", "1"), ("b, [bold]", "4")]
    assert (rows[0]["dice"], rows[0]["volume_difference_ml"], rows[0]["name"]) == ("0.900000", "-0.500000", "Anterior")
    assert (rows[3]["dice"], rows[3]["note"]) == ("", "empty in truth and prediction")
    assert [(row["case"], row["note"]) for row in rows[4:]] == [
        ("c", "prediction holds fractions"), ("d", "prediction missing"), ("e", "prediction missing"),
    ]  # fmt: skip
    assert list(rows[0])[3:12] == [metric.name for metric in METRICS]


def test_tables_fit_80_columns_and_show_names_and_figures(evaluation, summaries):
    text = shown(summary_table(evaluation, summaries, 1.0), case_table(evaluation))
    assert "Anterior" in text
    assert "0.900 to 0.900" in text
    assert "b, [bold]" in text
    assert "n/a" in text
    assert max(map(len, text.splitlines())) <= 80


def test_many_labels_have_a_row_each(evaluation):
    many = replace(evaluation, labels={value: f"organ {value}" for value in range(1, 40)})
    text = shown(summary_table(many, summarise(many, 200, 0), 1.0))
    assert [line.split()[1] for line in text.splitlines() if line.strip().startswith("organ")] == [str(value) for value in range(1, 40)]
    assert max(map(len, text.splitlines())) <= 80


def test_pictures_show_pixels_and_no_millilitres(evaluation, summaries):
    picture = replace(evaluation, picture=True)
    text = shown(summary_table(picture, summaries, 1.0), case_table(picture))
    assert "HD95 px" in text
    assert "surface Dice 1 px" in text
    assert "ml" not in text


def test_what_the_means_leave_out_is_said(evaluation, summaries):
    text = shown(*remarks(evaluation, summaries))
    for words in ("pixel error 0.1875", "Pösterior: empty in truth and prediction of 1 case", "d, e", "extra", "not compared: c:"):
        assert words in text


@pytest.mark.parametrize("metric", shown_metrics(False), ids=lambda metric: metric.name)
def test_box_plots_are_pictures_and_the_same_each_time(evaluation, metric):
    data = box_plot(evaluation, metric, 1.0)
    assert data == box_plot(evaluation, metric, 1.0)
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "PNG"
    assert min(picture.size) > 200
