from segpipe.config.folder import conf_folder, describe, groups


def test_all_groups_have_choices() -> None:
    found = groups()
    assert set(found) == {"augment", "conf", "dataset", "inference", "network", "plan", "training"}
    assert all(found.values())


def test_each_choice_says_what_it_is_for() -> None:
    for group in groups():
        for name, text in describe(group).items():
            assert len(text) > 10, f"{conf_folder()}/{group}/{name}.yaml starts without a comment"


def test_the_named_tasks_are_shipped() -> None:
    assert {"prostate", "hippocampus", "membrane", "phantom"} <= set(groups()["conf"])
