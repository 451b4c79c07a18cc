import re
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from segpipe.config.compose import compose_settings
from segpipe.config.words import read_words
from segpipe.errors import ConfigError

READABLE = st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" "), max_size=20)


@given(READABLE.filter(lambda text: "${" not in text and not re.match(r"^\s*(['\"]).*\1\s*$", text)))
def test_a_path_or_pattern_is_taken_as_it_stands(text: str) -> None:
    [word] = read_words([f"dataset.pattern={text}"]).overrides
    assert OverridesParser.create().parse_override(word).value() == text


def test_what_has_a_meaning_in_hydras_grammar_is_text_in_a_setting_that_is_text() -> None:
    texts = {
        "group": r"(patient\d+)_",
        "pattern": r"(?P<case>.+)_(?P<channel>flair|t1c)",
        "root": "a'b,c\\'",
        "images": "null",
        "labels": "1e3",
    }
    dataset = compose_settings([f"dataset.{name}={text}" for name, text in texts.items()]).settings.dataset
    assert {name: getattr(dataset, name) for name in texts} == texts


def test_quotes_of_the_users_own_are_understood() -> None:
    assert compose_settings(["dataset.group='a b'"]).settings.dataset.group == "a b"


@pytest.mark.parametrize("word", ['{"1": PZ, "2": "T, Z"}', "{'1':PZ,'2' : 'T, Z'}", "{1: PZ, 2: 'T, Z'}", '{"1": PZ, 2: "T, Z"}'])
def test_a_mapping_is_read_with_and_without_quotes_around_its_names(word: str) -> None:
    assert compose_settings([f"dataset.label_names={word}"]).settings.dataset.label_names == {"1": "PZ", "2": "T, Z"}


def test_every_mapping_is_read_as_yaml_and_json_write_it() -> None:
    words = [
        'training.class_weights={"PZ": 1, "T1/T2 (x=1, y: z)": 2.5}',
        'launch.options={"timeout_min": 240, "slurm_partition": "gpu"}',
        'dataset.regions={"whole gland": [1, 2], "core": [1]}',
        'augment.rotate={"probability": 0.5}',
    ]
    settings = compose_settings(words).settings
    assert settings.training.class_weights == {"PZ": 1.0, "T1/T2 (x=1, y: z)": 2.5}
    assert settings.launch.options == {"timeout_min": "240", "slurm_partition": "gpu"}
    assert settings.dataset.regions == {"whole gland": [1, 2], "core": [1]}
    assert settings.augment.rotate.probability == 0.5


def test_quotes_within_a_mappings_text_stay() -> None:
    names = compose_settings(["""dataset.label_names={"1": "a, 'b': c"}"""]).settings.dataset.label_names
    assert names == {"1": "a, 'b': c"}


def test_several_mappings_make_a_sweep() -> None:
    words = read_words(['dataset.label_names={"1": PZ},{"1": TZ}'], sweep=True)
    assert words.overrides == ["dataset.label_names={1: PZ},{1: TZ}"]
    assert words.swept == ["dataset.label_names"]


def test_hydras_plus_signs_change_nothing() -> None:
    assert compose_settings(["+seed=3"]) == compose_settings(["++seed=3"]) == compose_settings(["seed=3"])


def test_the_last_of_two_words_rules() -> None:
    assert compose_settings(["seed=3", "seed=4"]).settings.seed == 4


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("prostate", "'prostate': is not SETTING=VALUE; did you mean conf=prostate?"),
        ("--fast", "'--fast': is not SETTING=VALUE; write, for example, training.max_minutes=10"),
        ("~seed=1", "~seed=1: a setting cannot be removed; give it another value, seed=VALUE"),
        ("conf=prostata", "conf=prostata: no such choice; did you mean conf=prostate? available: hippocampus, membrane, phantom, prostate"),
        ("conf=./no.yaml", "conf=./no.yaml: no such file; give a YAML file, or one of the tasks hippocampus, membrane, phantom, prostate"),
        ("network=resnet", "network=resnet: no such choice; did you mean network=vnet? available: unet, vnet"),
        ("network={name:vnet}", "network={name:vnet}: must be one of unet, vnet; single settings are written network.NAME=VALUE"),
        ("seed=1,2", "seed=1,2: names several values; add -m for one run each, or write a list as seed=[1,2]"),
        ("network=unet,vnet", "network=unet,vnet: names several values; add -m for one run each"),
        ("plan.spacing_mm=[1,1", "plan.spacing_mm=[1,1: cannot be read; write a list as plan.spacing_mm=[a,b]"),
        ("training.lr=[1", "training.lr=[1: cannot be read; write one value, training.lr=VALUE"),
        (
            "training.class_weights={PZ:",
            "training.class_weights={PZ:: cannot be read; write a mapping as 'training.class_weights={name: value, other: value}'",
        ),
        ("hydra.run.dir=x", "hydra.run.dir=x: Hydra's own settings are used in sweeps only; add -m, or leave it out"),
        ("training.max_minuts=3", "training.max_minuts: unknown key; did you mean training.max_minutes?"),
    ],
)
def test_a_word_that_cannot_be_meant_is_refused_with_a_hint(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        read_words([word])


def test_a_sweep_remembers_what_is_swept_in_the_order_typed(tmp_path: Path) -> None:
    own = tmp_path / "my task.yaml"
    own.write_text("name: mine\n")
    words = read_words(["training.lr=0.1,0.01", f"conf=phantom,{own}", "seed=range(3)", "name=x"], sweep=True)
    assert words.swept == ["training.lr", "conf", "seed"]
    assert list(words.files.values()) == [own]
    assert words.overrides[1] == f"conf=phantom,{next(iter(words.files))}"
