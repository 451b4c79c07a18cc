import pytest

from segpipe.config.keys import leaves, sections, unknown


def test_leaves_are_dotted_names_with_types() -> None:
    found = leaves()
    assert found["seed"] is int
    assert found["training.lr"] is float
    assert found["augment.rotate.low"] is float
    assert {"training", "augment", "augment.rotate"} <= sections()


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("training.max_minuts", "training.max_minutes"),
        ("max_minutes", "training.max_minutes"),
        ("trainig.max_steps", "training.max_steps"),
        ("dataset.layouts", "dataset.layout"),
        ("training.optimizer", "training.optimiser"),
        ("plan.normalization", "plan.normalisation"),
        ("sed", "seed"),
        ("augment.rotat.low", "augment.rotate.low"),
    ],
)
def test_a_mistyped_setting_names_the_one_that_was_meant(typed: str, meant: str) -> None:
    assert str(unknown(typed)).startswith(f"{typed}: unknown key; did you mean ")
    assert str(unknown(typed)).removesuffix("?").rsplit(".", 1)[-1].split()[-1] == meant.rsplit(".", 1)[-1]


def test_a_setting_like_no_other_lists_what_its_section_has() -> None:
    assert str(unknown("inference.zzz")) == "inference.zzz: unknown key; known in inference: overlap, batch"
    assert "dataset, plan, augment" in str(unknown("zzz.yyy"))
