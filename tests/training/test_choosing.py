"""What is chosen: more for more text, more time and a faster device, and never against what is given."""

from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layer_decoding.errors import LayerDecodingError
from layer_decoding.training.choosing import RUNGS, Amount, choose, kept, measured_speed
from layer_decoding.training.recipe import Length, Recipe

CORPUS = Amount(109_200_000)
LAPTOP, H100 = 1e11, 6e14  # operations a second of a large product


def for_minutes(minutes, amount=CORPUS, device="cpu", speed=LAPTOP, **options):
    return choose(options, amount, Length(None, 60 * minutes), device, speed)


def test_the_bundled_models_recipe_is_what_an_h100_gets_for_five_minutes():
    assert for_minutes(5, device="cuda", speed=H100) == Recipe(12, 256, 4, 512, 8192, 64, 0.004, dropout=0.1)


def test_a_minute_on_a_small_text_gets_a_model_that_can_take_steps():
    recipe = for_minutes(1, Amount(100_000))
    assert recipe.layers >= 6
    assert recipe.width <= 96
    assert recipe.dropout == 0.1


def test_more_time_and_a_faster_device_never_choose_a_smaller_model():
    widths = [for_minutes(minutes).width for minutes in (0.1, 1, 5, 20, 60, 600)]
    assert widths == sorted(widths)
    assert len(set(widths)) > 2
    widths = [for_minutes(5, speed=speed).width for speed in (1e9, 1e10, 1e11, 1e12, 1e13)]
    assert widths == sorted(widths)


def test_more_text_never_chooses_a_smaller_model_or_vocabulary():
    recipes = [for_minutes(600, Amount(10**power)) for power in range(3, 9)]
    for name in ("width", "vocabulary"):
        values = [getattr(recipe, name) for recipe in recipes]
        assert values == sorted(values)
        assert values[0] < values[-1]


@pytest.mark.parametrize("speed", [1.0, 1e20])
def test_for_a_number_of_steps_the_speed_has_no_say(speed):
    recipe = choose({}, CORPUS, Length(3000), "cpu", speed)
    assert recipe == choose({}, CORPUS, Length(3000), "cpu", LAPTOP)
    assert recipe.width == 192
    assert choose({}, CORPUS, Length(3000), "cuda", speed).width == 256


@given(st.integers(1, 10**9), st.floats(0.01, 1000), st.floats(1e8, 1e16))
def test_whatever_is_chosen_can_be_built_and_fed(byte_count, minutes, speed):
    recipe = for_minutes(minutes, Amount(byte_count), speed=speed)
    assert recipe.width % recipe.heads == 0
    assert recipe.vocabulary >= 257
    if byte_count > 1000:
        assert recipe.context * (recipe.batch + 1) < byte_count / 4


@given(st.fixed_dictionaries({}, optional={
    "layers": st.integers(1, 4), "width": st.sampled_from([16, 30, 96]), "context": st.integers(2, 99),
    "batch": st.integers(1, 99), "learning_rate": st.just(0.5), "dropout": st.just(0.3), "seed": st.just(7),
    "vocabulary": st.just(300), "tokenizer": st.just("characters"),
}))  # fmt: skip
def test_what_is_given_is_taken(options):
    recipe = asdict(for_minutes(1, Amount(100_000), **options))
    assert {name: recipe[name] for name in options} == options
    assert recipe["width"] % recipe["heads"] == 0


@pytest.mark.parametrize("heads", [1, 3, 5, 7])
def test_heads_alone_make_the_width_a_multiple(heads):
    assert for_minutes(1, heads=heads).width % heads == 0


def test_dialogues_are_learnt_by_heart():
    recipe = for_minutes(1, Amount(3000, longest=150))
    assert recipe.dropout == 0
    assert recipe.context == 256
    assert recipe.vocabulary == 4096
    assert for_minutes(1, Amount(3000, longest=5000)).context == 1024


def test_a_checkpoints_recipe_is_kept_unless_something_else_is_given():
    recipe = for_minutes(1)
    assert kept(recipe, {"layers": recipe.layers}, "folder") == recipe
    with pytest.raises(LayerDecodingError, match=r"folder was made with learning rate 0\.01, seed 0;") as caught:
        kept(replace(recipe, learning_rate=0.01), {"seed": 5, "learning_rate": 0.1}, "folder")
    assert caught.value.settings == ("learning_rate", "seed", "out")


def test_the_first_rung_is_for_everyone_and_each_takes_more():
    assert (RUNGS[0].fewest_bytes, RUNGS[0].fewest_steps) == (0, 0)
    costs = [rung.step_operations(4096) for rung in RUNGS]
    assert costs == sorted(costs)


def test_a_step_is_counted_by_hand():
    """6 blocks of 12 × 64², a head of 512 × 64, 8 × 64 tokens, 6 operations a weight."""
    assert (
        replace(RUNGS[0], layers=6, width=64, context=64, batch=8).step_operations(512) == 6 * (294_912 + 32_768) * 512
    )


def test_the_speed_here_is_one_that_a_processor_can_have():
    assert 1e8 < measured_speed("cpu") < 1e15


def test_a_second_gpu_is_a_gpu():
    assert for_minutes(5, device="cuda:1", speed=H100) == for_minutes(5, device="cuda", speed=H100)
